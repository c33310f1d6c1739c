"""DICOM series for tests: one small volume in many positions, and ways to spoil them."""

from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.series.writer import write_series

SPACING = (1.5, 2.25, 3.75)  # no two are equal, so that none can be taken for another
SHAPE = (14, 18, 10)
# The axes of the volume in NIfTI's letters: to which side columns, rows and slices are counted.
PLANES = {
    "axial": "LPS",
    "axial, slices down": "LPI",
    "axial, rows up": "LAS",
    "coronal": "LIA",
    "sagittal": "PIL",
    "half-turned": "RAS",
}


def affine_of(plane: str, spacing: tuple = SPACING, shape: tuple = SHAPE) -> np.ndarray:
    """An affine whose axes lie in a plane, or that is oblique to all of them."""
    letters = PLANES.get(plane, "LPS")
    codes = nib.orientations.axcodes2ornt(letters)
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(codes):
        affine[int(world), axis] = sign * spacing[axis]
    affine[:3, 3] = (11.5, -23.25, 40.125)
    affine[3, 3] = 1
    if plane == "oblique":
        affine[:3, :3] = turn((0.31, -0.22, 0.47)) @ affine[:3, :3]
    return affine


def turn(angles: tuple) -> np.ndarray:
    """A rotation by angles about the three axes."""
    (a, b, c), (x, y, z) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -x], [0, x, a]])
    about_y = np.array([[b, 0, y], [0, 1, 0], [-y, 0, b]])
    about_z = np.array([[c, -z, 0], [z, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def volume_of(shape: tuple = SHAPE, seed: int = 0) -> np.ndarray:
    """Random whole numbers: no part of it is like another."""
    return np.random.default_rng(seed).integers(1, 4000, shape).astype(np.uint16)


def make_series(folder: Path, plane: str = "axial", shape: tuple = SHAPE, seed: int = 0, **facts) -> tuple:
    """Writes a series and returns its volume and affine."""
    given = {
        "PatientID": "PAT 01",
        "StudyDate": "20260301",
        "StudyTime": "120000",
        "StudyID": "1",
        "SeriesDescription": "T2 axial",
        **facts,
    }
    volume, affine = volume_of(shape, seed), affine_of(plane, shape=shape)
    write_series(volume, affine, folder, **given)
    return volume, affine


def same_place(volume: np.ndarray, affine: np.ndarray, other: np.ndarray, other_affine: np.ndarray) -> bool:
    """Whether two volumes have the same value at every place, however their axes lie."""
    indices = np.indices(volume.shape).reshape(3, -1)
    places = affine @ np.vstack([indices, np.ones(indices.shape[1])])
    found = (np.linalg.inv(other_affine) @ places)[:3]
    whole = np.rint(found).astype(int)
    if np.abs(found - whole).max() > 0.01 or (whole < 0).any() or (whole.T >= other.shape).any():
        return False
    return bool((volume.ravel() == other[tuple(whole)]).all())


def edit(file: Path, target: Path | None = None, **values) -> Path:
    """Writes a file anew with other headers; None removes one."""
    from pydicom import dcmread

    found = dcmread(file)
    for word, value in values.items():
        if value is None:
            delattr(found, word)
        else:
            setattr(found, word, value)
            if word == "SOPInstanceUID":
                found.file_meta.MediaStorageSOPInstanceUID = value
    found.save_as(target or file)
    return target or file


def slices_of(folder: Path) -> list[Path]:
    """The files of a series in the order of its slices."""
    return sorted(folder.glob("*.dcm"))


def as_enhanced(folder: Path, file: Path, order: list[int] | None = None, slopes: list[float] | None = None) -> Path:
    """Writes the slices of a folder as one enhanced multi-frame file.

    Args:
        folder: of a series.
        file: the new one.
        order: of the frames; by default that of the slices.
        slopes: a rescale slope for every frame.
    """
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

    slices = [dcmread(path) for path in slices_of(folder)]
    slices = [slices[index] for index in order or range(len(slices))]
    whole = dcmread(slices_of(folder)[0])
    whole.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4.1")
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.NumberOfFrames = len(slices)
    whole.PixelData = b"".join(one.PixelData for one in slices)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, whole.SliceThickness
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    whole.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index, one in enumerate(slices):
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        content.StackID, content.InStackPositionNumber = "1", index + 1
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        if slopes:
            change = Dataset()
            change.RescaleSlope, change.RescaleIntercept, change.RescaleType = slopes[index], 0, "US"
            group.PixelValueTransformationSequence = [change]
        groups.append(group)
    whole.PerFrameFunctionalGroupsSequence = groups
    for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, word)
    file.parent.mkdir(parents=True, exist_ok=True)
    whole.save_as(file)
    return file
