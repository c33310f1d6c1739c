"""Files that are damaged, hostile or of another kind end in one line: no traceback, no hang, nothing written."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="the extra dicom is not installed")
import pydicom
from helpers import refusal
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from segment_samples import ABOUT, CLASSES, make_case

from scripts.core.errors import UserError
from scripts.dicom.contours import fill
from scripts.dicom.importing import import_structures
from scripts.dicom.masks import read_masks
from scripts.dicom.reading import open_structures
from scripts.dicom.segmentation import write_segmentation
from scripts.dicom.structures import write_structures

SAMPLES = sorted(file for file in Path(pydicom.__file__).parent.glob("data/test_files/*") if file.is_file())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A series and its objects of three forms."""
    folder = tmp_path_factory.mktemp("objects")
    frames, stack, *_ = make_case(folder / "series", "oblique")
    write_segmentation(frames, stack, CLASSES, folder / "seg.dcm", ABOUT)
    write_segmentation(frames, stack, CLASSES, folder / "labelmap.dcm", ABOUT, labelmap=True)
    write_structures(frames, stack, CLASSES, folder / "rtstruct.dcm", ABOUT)
    return folder, stack


def test_files_of_other_kinds(tmp_path, made):
    assert len(SAMPLES) > 50
    for file in SAMPLES:
        assert str(file) in refusal(import_structures, file, str(made[0] / "series"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["seg", "labelmap", "rtstruct"])
def test_bytes_that_are_cut_or_changed(tmp_path, made, form):
    folder, stack = made
    whole, chance, refused = (folder / f"{form}.dcm").read_bytes(), np.random.default_rng(7), 0
    file = tmp_path / "spoilt.dcm"
    for attempt in range(60):
        content = bytearray(whole)
        if attempt % 3:
            for at in chance.integers(132, min(len(content), 12_000), 5):
                content[at] = chance.integers(256)
        else:
            content = content[: chance.integers(132, len(content))]
        file.write_bytes(content)
        try:
            read = open_structures(file)
            read_masks(read, stack, {one.number for one in read.structures})
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"NumberOfFrames": 10**9}, "expected 2,147,483,648 pixels at most"),
        ({"Rows": 60_000, "Columns": 60_000}, "pixels at most"),
        ({"NumberOfFrames": 3}, "found the places of"),
        ({"SegmentationType": None}, "not readable"),
    ],
)
def test_headers_that_promise_what_is_not_there(tmp_path, made, changes, says):
    folder, stack = made
    content = pydicom.dcmread(folder / "seg.dcm")
    for word, value in changes.items():
        if value is None:
            del content[word]
        else:
            setattr(content, word, value)
    content.save_as(tmp_path / "seg.dcm")
    read = open_structures(tmp_path / "seg.dcm")
    assert says in refusal(read_masks, read, stack, {1})


@pytest.mark.parametrize("values", [b"1\\2\\3\\4", b"nan\\1\\1", b"a\\b\\c", b"1e400\\1\\1"])
def test_contours_that_are_no_points(tmp_path, made, values):
    folder, stack = made
    content = pydicom.dcmread(folder / "rtstruct.dcm")
    contour = content.ROIContourSequence[1].ContourSequence[0]
    padded = values + b" " * (len(values) % 2)
    contour[0x30060050] = RawDataElement(Tag(0x30060050), "DS", len(padded), padded, 0, True, True)
    content.save_as(tmp_path / "rt.dcm")
    assert "not readable" in refusal(read_masks, open_structures(tmp_path / "rt.dcm"), stack, {2})


@pytest.mark.parametrize("values", [None, b"", b"  "])
def test_a_contour_without_data_is_left_out_and_counted(tmp_path, made, values):
    folder, stack = made
    content = pydicom.dcmread(folder / "rtstruct.dcm")
    empty = pydicom.Dataset()
    empty.ContourGeometricType, empty.NumberOfContourPoints = "CLOSED_PLANAR", 0
    if values is not None:
        empty[0x30060050] = RawDataElement(Tag(0x30060050), "DS", len(values), values, 0, True, True)
    content.ROIContourSequence[1].ContourSequence.insert(0, empty)
    content.save_as(tmp_path / "rt.dcm")
    whole, found = (
        read_masks(open_structures(file), stack, {2})[2] for file in (folder / "rtstruct.dcm", tmp_path / "rt.dcm")
    )
    assert np.array_equal(found.voxels, whole.voxels) and whole.voxels.any()
    assert (whole.beside, found.beside) == (0, 1)


def test_a_contour_of_many_points_takes_little(made):
    angle = np.linspace(0, 2 * np.pi, 300_000)
    circle = np.stack([64 + 40 * np.cos(angle), 60 + 30 * np.sin(angle)], 1)
    found = fill(circle, (128, 128))
    assert abs(found.sum() - np.pi * 40 * 30) < 0.01 * found.sum()
    rows, columns = np.nonzero(found)
    assert abs(columns.mean() - 64) < 0.05 and abs(rows.mean() - 60) < 0.05
    saw = np.stack([np.tile([-5.0, 200.0], 50_000), np.linspace(-50, 200, 100_000)], 1)  # mostly outside
    assert fill(saw, (128, 128)).shape == (128, 128)
