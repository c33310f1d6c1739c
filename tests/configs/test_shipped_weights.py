"""The weights that come with the bundle: small, whole, honest on what they are, and used by their recipe."""

import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from conftest import BUNDLE, ROOT, run

from scripts.data.label_maps import read_labels
from scripts.training.checkpoint_files import digest_file, read_checkpoint

FILE = BUNDLE / "models" / "hippocampus.pt"
CLASSES = ["background", "anterior", "posterior"]


def test_they_are_small_whole_and_say_what_they_are():
    assert FILE.stat().st_size < 25e6
    check = ["sha256sum", "-c", digest_file(FILE).name]
    assert subprocess.run(check, cwd=FILE.parent, capture_output=True).returncode == 0
    info = read_checkpoint(FILE)["info"]
    assert info["class_names"] == CLASSES and "CC-BY-SA 4.0" in info["trained_on"] and "all 208" in info["trained_on"]


@pytest.mark.parametrize("document", ["docs/hippocampus.md", "docs/data_license.txt", "models/README.md"])
def test_their_card_names_data_and_licence(document):
    text = (BUNDLE / document).read_text()
    assert "Segmentation Decathlon" in text and "CC-BY-SA" in text and "hippocampus.pt" in text


def test_inference_with_the_recipe_takes_them(tmp_path):
    """A bright tube is no hippocampus, but goes all the way from file to file."""
    shutil.copytree(FILE.parent, tmp_path / "models", ignore=lambda _, names: {"model.pt", "last.pt"} & set(names))
    values = np.random.default_rng(0).normal(100, 10, (37, 52, 34)).astype(np.float32)
    values[14:24, 10:42, 14:22] += 60
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1.0])), tmp_path / "tube.nii.gz")
    paths = {"dataset_dir": tmp_path / "tube.nii.gz", "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out"}
    run("infer", ["inference.json", "recipe_hippocampus.json"], base={"num_workers": 0}, **paths)
    labels, _ = read_labels(tmp_path / "out" / "tube_seg.nii.gz", CLASSES)
    assert labels.shape == values.shape
    about = dict(json.loads((tmp_path / "out" / "metrics.json").read_text())["about"])
    assert "Decathlon" in about["Trained on"] and "hippocampus.pt" in about["Checkpoint"]


def test_git_keeps_no_other_weights():
    listed = subprocess.run(["git", "ls-files", "*.pt"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert listed in ([], ["bundle/models/hippocampus.pt"])
