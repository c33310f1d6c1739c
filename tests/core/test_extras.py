"""The bundle runs without the packages of its extras, and says in one line what is missing where one is needed."""

import subprocess
import sys

import pytest
from conftest import BUNDLE, segment

from scripts.core.errors import UserError
from scripts.core.extras import EXTRAS, require

IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(["pydicom", "highdicom", "gdcm"]))
import scripts
for module in pkgutil.walk_packages(scripts.__path__, "scripts."):
    importlib.import_module(module.name)
"""


def test_a_package_that_is_there_is_returned():
    assert require("json", "dicom", "reading") is sys.modules["json"]


def test_one_line_says_what_to_install():
    with pytest.raises(UserError) as caught:
        require("no_such_package", "dicom", "a.dcm")
    assert str(caught.value) == (
        "a.dcm: the package no_such_package is missing, expected those of the extra dicom; "
        f"pip install {EXTRAS['dicom']}"
    )


def test_every_module_can_be_imported_without_the_extras():
    program = [sys.executable, "-W", "ignore", "-c", IMPORT_ALL]
    done = subprocess.run(program, cwd=BUNDLE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


def test_nifti_is_segmented_without_the_extras(trained, tmp_path, monkeypatch):
    for package in ("pydicom", "highdicom", "gdcm"):
        monkeypatch.setitem(sys.modules, package, None)
    segment(trained, tmp_path)
    assert list(tmp_path.glob("*_seg.nii.gz"))
