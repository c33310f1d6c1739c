"""The files beside the label map of a series: what is refused, what is written anew, and what a failure leaves."""

import json
import logging
import os

import numpy as np
import pytest
from conftest import run
from series_samples import make_series

from scripts.core.errors import UserError
from scripts.dicom import commands
from scripts.inference.formats import OutputFormats
from scripts.series.index import choose, path_of
from scripts.series.reader import read_grid

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
pytest.importorskip("highdicom", reason="the extra dicom is not installed")
CLASSES = ["background", "body", "prostate"]


@pytest.fixture
def series(tmp_path):
    """The path of a series, a label map for it, and its affine."""
    make_series(tmp_path / "scan")
    path = path_of(tmp_path / "scan", choose(tmp_path / "scan")[0][0])
    shape, affine = read_grid(path)
    labels = np.ones(shape, np.uint8)
    labels[4:8, 5:9, 2:6] = 2
    return path, labels, affine


def made(*names: str, **options) -> OutputFormats:
    formats = OutputFormats(names, **options)
    formats.check([])
    formats.begin("0" * 64, None)
    return formats


def test_only_the_label_map_needs_no_series():
    OutputFormats().check(["a.nii.gz"])
    with pytest.raises(UserError, match="a.nii.gz: output_formats has image, which refers to the DICOM series"):
        OutputFormats(["nifti", "image"]).check(["a.nii.gz"])


@pytest.mark.parametrize(
    ("options", "words"), [({"uid_root": "1.02"}, "--uid_root 1.02: expected"), ({"segments": "no.json"}, "no.json")]
)
def test_a_wrong_root_or_file_of_codes_is_refused_before_any_case(options, words):
    with pytest.raises(UserError, match=words):
        OutputFormats(["rtstruct"], **options).check(["a/b.series"])


def test_without_highdicom_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(UserError, match="output_formats dicom_seg: the package highdicom is missing, expected those"):
        OutputFormats(["dicom_seg"]).check(["a/b.series"])
    OutputFormats(["image"]).check(["a/b.series"])


def test_contours_are_refused_before_any_case_where_nothing_can_draw_them(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "contourpy", None)
    with pytest.raises(UserError, match="output_formats rtstruct: the package contourpy is missing, expected those"):
        OutputFormats(["rtstruct"]).check(["a/b.series"])
    OutputFormats(["dicom_seg"]).check(["a/b.series"])


def test_files_are_written_anew_or_where_they_are_missing(series, tmp_path):
    path, labels, affine = series
    formats = made("image", "dicom_seg", "rtstruct")
    formats.write(path, labels, affine, CLASSES, tmp_path / "case")
    files = sorted(tmp_path.glob("case_*"))
    assert [file.name for file in files] == ["case_image.nii.gz", "case_rtstruct.dcm", "case_seg.dcm"]
    before = [file.read_bytes() for file in files]
    result = tmp_path / "map.nii.gz"
    result.touch()
    os.utime(result, ns=(0, files[0].stat().st_mtime_ns))
    files[1].write_bytes(b"edited")
    files[2].unlink()
    formats.write(path, labels, affine, CLASSES, tmp_path / "case", made_from=result)
    assert files[1].read_bytes() == b"edited" and files[2].read_bytes() == before[2]
    os.utime(result, ns=(0, 2 * files[0].stat().st_mtime_ns))  # the label map was corrected since
    formats.write(path, labels, affine, CLASSES, tmp_path / "case", made_from=result)
    assert files[1].read_bytes() == before[1]
    formats.write(path, labels, affine, CLASSES, tmp_path / "case")
    assert [file.read_bytes() for file in files] == before
    os.utime(result, ns=(0, 2 * files[0].stat().st_mtime_ns))  # corrected once more, and no contours are asked for
    made("dicom_seg").write(path, labels, affine, CLASSES, tmp_path / "case", made_from=result)
    assert sorted(file.name for file in tmp_path.glob("case_*")) == ["case_image.nii.gz", "case_seg.dcm"]
    made("dicom_seg", "rtstruct").write(path, labels, affine, CLASSES, tmp_path / "case")
    made("dicom_seg").write(path, labels, affine, CLASSES, tmp_path / "case")  # the contours would be of older labels
    assert sorted(file.name for file in tmp_path.glob("case_*")) == ["case_image.nii.gz", "case_seg.dcm"]
    made("nifti").write(path, labels, affine, CLASSES, tmp_path / "case")
    assert [file.name for file in tmp_path.glob("case_*")] == ["case_image.nii.gz"]


def test_a_label_map_without_a_class_has_no_file_and_takes_the_old_one_away(series, tmp_path, caplog):
    path, labels, affine = series
    (tmp_path / "case_rtstruct.dcm").write_bytes(b"of another label map")
    with caplog.at_level(logging.WARNING):
        made("rtstruct").write(path, np.zeros_like(labels), affine, CLASSES, tmp_path / "case")
    assert not (tmp_path / "case_rtstruct.dcm").exists()
    assert "case_rtstruct.dcm: not written, as the label map has no class" in caplog.text


def test_a_failure_keeps_the_label_map_and_is_told(trained, tmp_path, monkeypatch):
    make_series(tmp_path / "scan", shape=(32, 32, 16))

    def fail(*_):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setitem(commands.WRITERS, "rtstruct", fail)
    paths = {"dataset_dir": tmp_path / "scan", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models"}
    (tmp_path / "out").mkdir()
    start = tmp_path / "out" / "PAT-01_20260301_s1_T2-axial"
    old = start.with_name(f"{start.name}_rtstruct.dcm")
    old.write_bytes(b"of another label map")
    with pytest.raises(UserError, match="1 of 1 cases failed"):
        run("infer", ["inference.json"], **paths, num_workers=0, output_formats=["rtstruct"])
    assert start.with_name(f"{start.name}_seg.nii.gz").is_file() and not old.exists()
    (case,) = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert case["reason"] == "RuntimeError: the disk is on fire"


def test_a_run_that_goes_on_with_another_root_writes_its_files_anew(trained, tmp_path):
    make_series(tmp_path / "scan", shape=(32, 32, 16))
    paths = {"dataset_dir": tmp_path / "scan", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models"}
    numbers = []
    for options in ({}, {"resume": True}, {"resume": True, "uid_root": "1.2.3"}, {"resume": True, "uid_root": "1.2.3"}):
        run("infer", ["inference.json"], **paths, num_workers=0, output_formats=["dicom_seg"], **options)
        (file,) = (tmp_path / "out").glob("*_seg.dcm")
        numbers.append((file.stat().st_mtime_ns, str(pydicom.dcmread(file).SOPInstanceUID)))
    assert numbers[0] == numbers[1] and numbers[2] == numbers[3]
    assert numbers[0][1].startswith("2.25.") and numbers[2][1].startswith("1.2.3.")
