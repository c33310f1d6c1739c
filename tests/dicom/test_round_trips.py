"""A label map comes back from SEG and RTSTRUCT voxel by voxel, and other readers find it at the same place."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("highdicom", reason="the extra dicom is not installed")

from scipy.ndimage import binary_fill_holes
from segment_samples import (
    ABOUT,
    CLASSES,
    EVERY_PLACE,
    contours_agree,
    large_organs,
    make_case,
    make_enhanced,
    masks_of_contours,
    seg_agrees,
    shuffle_numbers,
)

from scripts.dicom.masks import read_masks
from scripts.dicom.reading import open_structures
from scripts.dicom.segmentation import write_segmentation
from scripts.dicom.structures import write_structures
from scripts.series.reader import read_stack
from scripts.series.stack import Stack

REAL = sorted(folder for folder in Path(os.environ.get("DICOM_SERIES", "none")).glob("*") if folder.is_dir())
FORMS = ["BINARY", "LABELMAP", "RTSTRUCT"]


def write(frames: np.ndarray, stack: Stack, form: str, file: Path) -> Path:
    if form == "RTSTRUCT":
        write_structures(frames, stack, CLASSES, file, ABOUT)
    else:
        write_segmentation(frames, stack, CLASSES, file, ABOUT, labelmap=form == "LABELMAP")
    return file


def agrees(file: Path, form: str, labels: np.ndarray, affine: np.ndarray) -> bool:
    return (contours_agree if form == "RTSTRUCT" else seg_agrees)(file, labels, affine)


def outline_of_all(frames: np.ndarray) -> np.ndarray:
    return np.stack([binary_fill_holes(frame) for frame in frames > 0])


def assert_comes_back(file: Path, stack: Stack, frames: np.ndarray, form: str) -> None:
    """The bundle's own reader has every voxel of every class, and nothing beside the slices."""
    read = open_structures(file)
    masks = read_masks(read, stack, {one.number for one in read.structures})
    assert [one.name for one in read.structures] == [CLASSES[value] for value in np.unique(frames) if value]
    for one in read.structures:
        expected = frames == CLASSES.index(one.name)
        if form == "RTSTRUCT" and one.name == "body":
            expected = outline_of_all(frames)
        assert np.array_equal(masks[one.number].voxels, expected)
        assert masks[one.number].beside == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("plane", EVERY_PLACE)
def test_every_voxel_comes_back(tmp_path, plane, form):
    frames, stack, labels, affine = make_case(tmp_path / "series", plane)
    file = write(frames, stack, form, tmp_path / "out.dcm")
    assert_comes_back(file, stack, frames, form)
    assert agrees(file, form, labels, affine)


@pytest.mark.parametrize("form", FORMS)
def test_order_of_files_and_noise_in_directions_change_nothing(tmp_path, form):
    _, _, labels, affine = make_case(tmp_path / "series", "oblique")
    shuffle_numbers(tmp_path / "series")
    stack = read_stack(tmp_path / "series")
    frames = stack.to_frames(labels, affine)
    file = write(frames, stack, form, tmp_path / "out.dcm")
    assert_comes_back(file, stack, frames, form)
    assert agrees(file, form, labels, affine)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("plane", ["axial, slices down", "oblique"])
def test_one_file_of_all_slices(tmp_path, plane, form):
    frames, stack, labels, affine = make_enhanced(tmp_path, plane)
    file = write(frames, stack, form, tmp_path / "out.dcm")
    assert_comes_back(file, stack, frames, form)
    assert agrees(file, form, labels, affine)


@pytest.mark.parametrize("form", FORMS)
def test_a_mirrored_or_moved_export_is_noticed(tmp_path, form):
    frames, stack, labels, affine = make_case(tmp_path / "series", "oblique")
    wrong = {
        "left and right": frames[:, :, ::-1],
        "front and back": frames[:, ::-1],
        "head and foot": frames[::-1],
        "a column": np.roll(frames, 1, axis=2),
        "a slice": np.roll(frames, 1, axis=0),
    }
    assert agrees(write(frames, stack, form, tmp_path / "right.dcm"), form, labels, affine)
    for name, changed in wrong.items():
        assert not agrees(write(changed, stack, form, tmp_path / "wrong.dcm"), form, labels, affine), name


def test_spacings_that_are_swapped_are_noticed(tmp_path):
    frames, stack, labels, affine = make_case(tmp_path / "series", "oblique")
    swapped = stack.affine.copy()
    lengths = np.linalg.norm(swapped[:3, :2], axis=0)
    swapped[:3, :2] *= lengths[::-1] / lengths
    file = write(frames, replace(stack, affine=swapped), "RTSTRUCT", tmp_path / "wrong.dcm")
    assert not contours_agree(file, labels, affine)


def test_the_outline_of_the_patient_is_that_of_all_classes(tmp_path):
    frames, stack, labels, affine = make_case(tmp_path / "series", "oblique")
    file = write(frames, stack, "RTSTRUCT", tmp_path / "out.dcm")
    expected = stack.to_volume(outline_of_all(frames))
    found = masks_of_contours(file, expected.shape, stack.nifti_affine)["body"]
    assert np.array_equal(found, expected) and found.sum() > (labels > 0).sum()  # the hole of the ring is filled


@pytest.mark.parametrize("series", REAL or [None], ids=lambda path: path.name if path else "none")
def test_real_series(tmp_path, series):
    if series is None:
        pytest.skip("the variable DICOM_SERIES names no folder of real series")
    stack = read_stack(series)
    columns, rows, slices = stack.shape
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (slices, rows, columns)), indexing="ij", sparse=True)
    frames = ((x / 0.9) ** 2 + (y / 0.8) ** 2 + z**2 < 1).astype(np.uint8)
    radius = np.hypot(x + 0.35, y - 0.1) + 0 * z
    frames[(radius < 0.3) & (radius > 0.15) & (np.abs(z) < 0.5)] = 2
    frames[((x - 0.3) / 0.25) ** 2 + ((y + 0.3) / 0.2) ** 2 + ((z - 0.2) / 0.6) ** 2 < 1] = 3
    for form in FORMS:
        assert_comes_back(write(frames, stack, form, tmp_path / f"{form}.dcm"), stack, frames, form)


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)  # where pip puts programs
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def dice_and_shift_mm(file: Path, mask: np.ndarray, affine: np.ndarray) -> tuple[float, float]:
    """Dice and distance of the centroids of a NIfTI mask and another one, in space."""
    image = nib.load(file)
    found = np.argwhere(np.asarray(image.dataobj).reshape(image.shape[:3]) > 0)
    places = nib.affines.apply_affine(image.affine, found)
    expected = nib.affines.apply_affine(affine, np.argwhere(mask))
    indices = np.rint(nib.affines.apply_affine(np.linalg.inv(affine), places)).astype(int)
    common = len({*map(tuple, indices)} & {*map(tuple, np.argwhere(mask))})
    shift = np.linalg.norm(places.mean(0) - expected.mean(0))
    return 2 * common / (len(found) + np.count_nonzero(mask)), float(shift)


@pytest.mark.parametrize("plane", EVERY_PLACE)
def test_dcmqi_reads_the_same_segments(tmp_path, plane):
    reader = program("segimage2itkimage")
    frames, stack, labels, affine = make_case(tmp_path / "series", plane)
    file = write(frames, stack, "BINARY", tmp_path / "out.dcm")
    command = [reader, "--inputDICOM", file, "--outputDirectory", tmp_path, "--outputType", "nii", "--prefix", "dcmqi"]
    subprocess.run(command, check=True, capture_output=True)
    for number, value in enumerate((value for value in np.unique(labels) if value), 1):
        dice, shift = dice_and_shift_mm(tmp_path / f"dcmqi-{number}.nii.gz", labels == value, affine)
        assert dice == 1 and shift < 0.1


@pytest.mark.parametrize("plane", EVERY_PLACE)
def test_plastimatch_reads_the_same_contours(tmp_path, plane):
    reader = program("plastimatch")
    frames, stack, labels, affine = make_case(tmp_path / "series", plane, large_organs())
    file = write(frames, stack, "RTSTRUCT", tmp_path / "out.dcm")
    command = [reader, "convert", "--input", file, "--referenced-ct", tmp_path / "series", "--output-prefix"]
    subprocess.run([*command, tmp_path / "read", "--prefix-format", "nii.gz"], check=True, capture_output=True)
    for value in (3, 5):
        assert np.count_nonzero(labels == value) * abs(np.linalg.det(affine[:3, :3])) > 5000
        dice, shift = dice_and_shift_mm(tmp_path / "read" / f"{CLASSES[value]}.nii.gz", labels == value, affine)
        assert dice > 0.99 and shift < 0.1


@pytest.mark.parametrize("form", ["BINARY", "RTSTRUCT"])
@pytest.mark.parametrize("kind", ["single", "enhanced"])
def test_the_validator_finds_no_error(tmp_path, form, kind):
    validator = program("dciodvfy")
    frames, stack, *_ = make_case(tmp_path / "series") if kind == "single" else make_enhanced(tmp_path)
    file = write(frames, stack, form, tmp_path / "out.dcm")
    said = subprocess.run([validator, file], capture_output=True, text=True)
    lines = (said.stdout + said.stderr).splitlines()
    assert any(line in ("Segmentation", "RTStructureSet") for line in lines)  # it knew what it looked at
    assert [line for line in lines if "Error" in line] == []
