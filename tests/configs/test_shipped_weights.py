"""The weights that come with the bundle: small, intact, described, and used by their recipe."""

import hashlib
import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import BUNDLE, ROOT, run

from scripts.data.label_maps import read_labels
from scripts.training.weights import read_weights

FILE = BUNDLE / "models" / "hippocampus.json"
SHA256 = [  # of the weights that docs/hippocampus.md reports on
    "cccea468122d405a5e22c1e926804a23b4e65bd141341ff991779fee66090942",
    "371e158434e21cee99693f1d32a520032638e79c6c666697aeb9e77b0f9a1095",
    "40b0e3517c6f19a8529f2c024550173b163845b4237400db4df278c14c069f08",
    "7d30ca4d8208d7d9413f14423a481d270647ba7d8a547fab46191d7292ef33e5",
]
CLASSES = ["background", "anterior", "posterior"]


def test_they_are_small_whole_and_say_what_they_are():
    found = read_weights(FILE)
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in found.files] == SHA256
    assert [entry["sha256"] for entry in json.loads(FILE.read_text())["networks"]] == SHA256
    assert sum(file.stat().st_size for file in found.files) < 25e6
    for file in found.files:
        plain = torch.load(file, weights_only=True)
        assert all(value.dtype == torch.float16 for value in plain.values())
    info = found.info
    assert info["class_names"] == CLASSES and "CC-BY-SA 4.0" in info["trained_on"] and "208 cases" in info["trained_on"]


@pytest.mark.parametrize("document", ["docs/hippocampus.md", "docs/data_license.txt", "models/README.md"])
def test_their_card_names_data_and_licence(document):
    text = (BUNDLE / document).read_text()
    assert "Segmentation Decathlon" in text and "CC-BY-SA" in text and "models/hippocampus" in text


def test_inference_with_the_recipe_takes_them(tmp_path):
    """A bright tube is no hippocampus, but goes all the way from file to file."""
    shutil.copytree(FILE.parent, tmp_path / "models", ignore=shutil.ignore_patterns("model.*", "last.*"))
    values = np.random.default_rng(0).normal(100, 10, (37, 52, 34)).astype(np.float32)
    values[14:24, 10:42, 14:22] += 60
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 1.0, 1.0])), tmp_path / "tube.nii.gz")
    paths = {"dataset_dir": tmp_path / "tube.nii.gz", "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out"}
    run("infer", ["inference.json", "recipe_hippocampus.json"], base={"num_workers": 0}, **paths)
    labels, _ = read_labels(tmp_path / "out" / "tube_seg.nii.gz", CLASSES)
    assert labels.shape == values.shape
    about = dict(json.loads((tmp_path / "out" / "metrics.json").read_text())["about"])
    assert "Decathlon" in about["Trained on"] and "hippocampus_4.pt" in about["Checkpoint"]


def test_git_keeps_no_other_weights():
    listed = subprocess.run(["git", "ls-files", "*.pt"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert listed in ([], [f"bundle/models/hippocampus_{number}.pt" for number in range(1, 5)])
