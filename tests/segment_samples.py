"""Label maps on small DICOM series, enhanced files, and readers of SEG and RTSTRUCT without the code of the bundle."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from series_samples import SHAPE, make_series

from scripts.dicom.about import about_bundle
from scripts.series.index import choose, path_of
from scripts.series.reader import read_stack
from scripts.series.writer import uid_of

CLASSES = ["background", "body", "bones", "bladder", "rectum", "prostate"]
ABOUT = about_bundle()
EVERY_PLACE = ["axial", "axial, slices down", "coronal", "sagittal", "half-turned", "oblique"]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def label_map(shape: tuple = SHAPE) -> np.ndarray:
    """Body, a ring with a hole, an organ in two pieces, single voxels and a corner contact; the rectum is not there."""
    labels = np.zeros(shape, np.uint8)
    labels[1:-1, 1:-2, :-1] = 1
    labels[2:9, 3:10, 1:8] = 2
    labels[4:7, 5:8, 1:8] = 0  # background in the ring's hole
    labels[5, 6, 3:5] = 2
    labels[9:12, 11:15, 2:6] = 3
    labels[12, 15, 2:6] = 3
    labels[10, 12, 3] = 1
    labels[4:6, 12:14, 7:9] = 5
    labels[0, 0, 0] = 5
    return labels


def large_organs(shape: tuple = (96, 80, 48)) -> np.ndarray:
    """A bladder and a prostate of over 5 ml in a body."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    labels = np.where(x**2 / 0.8 + y**2 / 0.7 + z**2 / 0.8 < 1, 1, 0).astype(np.uint8)
    labels[(x - 0.2) ** 2 / 0.16 + (y + 0.1) ** 2 / 0.09 + z**2 / 0.2 < 1] = 3
    labels[(x + 0.4) ** 2 / 0.05 + (y + 0.1) ** 2 / 0.04 + z**2 / 0.05 < 1] = 5
    return labels


def make_case(folder: Path, plane: str = "axial", labels: np.ndarray | None = None, **facts) -> tuple:
    """A series and a label map on it: frames, stack, label map, affine."""
    labels = label_map() if labels is None else labels
    _, affine = make_series(folder, plane, labels.shape, **facts)
    stack = read_stack(folder)
    return stack.to_frames(labels, affine), stack, labels, affine


def shuffle_numbers(folder: Path) -> None:
    """Instance numbers and names of files in an order of their own, and noise in the last digits of the directions."""
    files = sorted(folder.glob("*.dcm"))
    numbers = np.random.default_rng(5).permutation(len(files))
    for file, number in zip(files, numbers):
        item = pydicom.dcmread(file)
        item.InstanceNumber = int(number)
        noisy = np.array(item.ImageOrientationPatient, float) + number * 1e-7
        item.ImageOrientationPatient = [f"{value:.10f}" for value in noisy]
        item.save_as(folder / f"IM{number:03}")
        file.unlink()


def make_enhanced(folder: Path, plane: str = "oblique", echoes: int = 1) -> tuple:
    """As `make_case`, in one multi-frame file with frames in no order, and a stack for each echo; the first of them."""
    _, affine = make_series(folder / "single", plane)
    files = sorted((folder / "single").glob("*.dcm"))
    order = np.random.default_rng(2).permutation(echoes * len(files))
    singles = [pydicom.dcmread(files[i // echoes]) for i in order]
    made = Dataset()
    for element in singles[0]:
        if element.keyword not in (
            "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "PixelData",
        ):  # fmt: skip
            made.add(element)
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4.1", uid_of("an enhanced file")
    made.NumberOfFrames = len(singles)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = singles[0].PixelSpacing, singles[0].SliceThickness
    orientation.ImageOrientationPatient = singles[0].ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], []
    for index, single in zip(order, singles):
        echo = Dataset()
        echo.EffectiveEchoTime = 10.0 + 70 * (index % echoes)
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = single.ImagePositionPatient
        content.FrameAcquisitionDateTime = "20260301101112"
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        group.MREchoSequence = [echo]
        made.PerFrameFunctionalGroupsSequence.append(group)
    made.PixelData = b"".join(single.PixelData for single in singles)
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    (folder / "enhanced").mkdir()
    made.save_as(folder / "enhanced" / "all.dcm", enforce_file_format=True)
    first = choose(folder / "enhanced")[0][0]
    stack = read_stack(path_of(folder / "enhanced", first))
    labels = label_map()
    return stack.to_frames(labels, affine), stack, labels, affine


def places_of(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the voxels of a mask are in DICOM's millimetres, by the affine of its NIfTI file alone."""
    return (LPS @ affine @ np.vstack([np.argwhere(mask).T, np.ones(np.count_nonzero(mask))]))[:3].T


def same_places(found: np.ndarray, expected: np.ndarray, tolerance: float = 0.01) -> bool:
    """Whether two lists of places are the same set."""
    if found.shape != expected.shape:
        return False
    near = np.linalg.norm(found[:, None] - expected[None], axis=2) < tolerance
    return bool(near.any(0).all() and near.any(1).all())


def seg_agrees(file: Path, labels: np.ndarray, affine: np.ndarray) -> bool:
    """Whether a SEG has every class at its place: bits and positions are read here, by none of the bundle's code."""
    content = pydicom.dcmread(file)
    names = {int(item.SegmentNumber): item.SegmentLabel for item in content.SegmentSequence}
    rows, columns = content.Rows, content.Columns
    if content.SegmentationType == "LABELMAP":
        frames = content.pixel_array.reshape(-1, rows, columns)
    else:
        bits = np.unpackbits(np.frombuffer(content.PixelData, np.uint8), bitorder="little")
        frames = bits[: content.NumberOfFrames * rows * columns].reshape(-1, rows, columns)
    (shared,) = content.SharedFunctionalGroupsSequence
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    row_step, column_step = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    found: dict[str, list] = {name: [] for name in CLASSES}
    for frame, group in zip(frames, content.PerFrameFunctionalGroupsSequence):
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(frame):
            if content.SegmentationType == "LABELMAP":
                number = int(frame[row, column])
            else:
                number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            found[names[number]].append(origin + across * column * column_step + down * row * row_step)
    return all(
        same_places(np.array(found[name]).reshape(-1, 3), places_of(labels == value, affine))
        for value, name in enumerate(CLASSES)
        if value
    )


def enclosed(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Which points of a plane an outline encloses: a ray to the right meets it an odd number of times."""
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0)):
        if y0 != y1:
            crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
            inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return inside


def masks_of_contours(file: Path, shape: tuple, affine: np.ndarray) -> dict[str, np.ndarray]:
    """Voxels whose centres the contours enclose, in the patient's coordinates, by none of the bundle's code."""
    content = pydicom.dcmread(file)
    names = {int(item.ROINumber): item.ROIName for item in content.StructureSetROISequence}
    centres = places_of(np.ones(shape, bool), affine)
    masks = {}
    for item in content.ROIContourSequence:
        mask = np.zeros(len(centres), bool)
        for contour in item.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            middle = points.mean(0)
            first, second, normal = np.linalg.svd(points - middle, full_matrices=False)[2]
            assert np.abs((points - middle) @ normal).max() < 0.001  # in one plane
            near = np.flatnonzero(np.abs((centres - middle) @ normal) < 0.05)
            plane = np.stack([first, second], 1)
            mask[near] ^= enclosed((centres[near] - middle) @ plane, (points - middle) @ plane)
        masks[names[int(item.ReferencedROINumber)]] = mask.reshape(shape)
    return masks


def contours_agree(file: Path, labels: np.ndarray, affine: np.ndarray) -> bool:
    """Whether an RTSTRUCT has every organ at its place."""
    masks = masks_of_contours(file, labels.shape, affine)
    return all(
        np.array_equal(masks[name], labels == value) if (labels == value).any() else name not in masks
        for value, name in enumerate(CLASSES)
        if value > 1  # the body is the outline of all
    )
