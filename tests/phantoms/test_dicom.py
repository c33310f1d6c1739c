"""Phantoms as DICOM series: the same image at the same place as in a NIfTI file, and a patient's weeks in order."""

import nibabel as nib
import numpy as np
import pytest
from series_samples import same_place

from scripts.core.errors import UserError
from scripts.data.layouts import find_pairs
from scripts.data.names import scan_date
from scripts.phantoms.generate import generate
from scripts.series.reader import read_series

pytest.importorskip("pydicom", reason="the extra dicom is not installed")
WHICH = {"patients": 1, "scans": 2, "size": (32, 32, 16), "first_patient": 7}


def test_series_show_what_the_files_show(tmp_path):
    for layout in ("decathlon", "dicom"):
        generate(tmp_path / layout, layout=layout, **WHICH)
    files, series = (find_pairs(tmp_path / layout) for layout in ("decathlon", "dicom"))
    for one, other in zip(files, series, strict=True):
        image = nib.load(tmp_path / "decathlon" / one["image"])
        assert same_place(np.asarray(image.dataobj), image.affine, *read_series(tmp_path / "dicom" / other["image"]))
        assert (tmp_path / "dicom" / other["label"]).read_bytes() == (
            tmp_path / "decathlon" / one["label"]
        ).read_bytes()
    assert [scan_date(entry["image"]) for entry in series] == ["20260105", "20260112"]
    assert {entry["patient"] for entry in series} == {"PHANTOM007"}


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        generate(tmp_path / name, layout="dicom", **WHICH)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.dcm"))
    assert len(files) == 32
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_without_pydicom_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UserError, match="writing DICOM files: the package pydicom is missing"):
        generate(tmp_path, layout="dicom", **WHICH)
