"""A program that knows nothing but MONAI's standard ids gives its cases to the bundle: train, evaluate, infer."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import EVALUATE, run, workflow
from helpers import refusal

from scripts.data.layouts import find_pairs


@pytest.fixture(scope="module")
def listed(phantoms) -> dict[str, list[dict]]:
    """Three lists of cases as such a program makes them: full paths, no datalist."""
    pairs = [{key: str(phantoms / pair[key]) for key in ("image", "label")} for pair in find_pairs(str(phantoms))]
    return {"training": pairs[:4], "validation": pairs[4:6], "new": pairs[6:8]}


@pytest.fixture(scope="module")
def folder(listed, tmp_path_factory) -> Path:
    """A training; there is no data set where dataset_dir points."""
    folder = tmp_path_factory.mktemp("standard")
    paths = {"dataset_dir": folder / "nowhere", "output_dir": folder, "ckpt_dir": folder / "models"}
    cases = {"train::dataset::data": listed["training"], "validate::dataset::data": listed["validation"]}
    run("train", ["train.json"], **paths, **cases, epochs=2)
    return folder


def test_training_uses_these_cases_alone(folder, listed):
    checked = json.loads((folder / "check.json").read_text())
    assert [case["image"] for case in checked["cases"]] == [
        case["image"] for split in ("training", "validation") for case in listed[split]
    ]
    info = json.loads((folder / "models" / "model.json").read_text())
    assert info["trained_on"] == "4 cases listed by another program"
    assert info["ranges"] and len((folder / "history.csv").read_text().splitlines()) == 3
    assert not (folder / "datalist.json").exists()


def test_evaluation_scores_these_cases_alone(folder, listed, tmp_path):
    paths = {"dataset_dir": folder / "nowhere", "output_dir": tmp_path, "ckpt_dir": folder / "models"}
    run("evaluate", EVALUATE, **paths, **{"validate::dataset::data": listed["new"]})
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["foreground"]["n"] == 2 and list(report["patients"]) == ["007"]


def test_inference_segments_these_images_alone(folder, listed, tmp_path):
    paths = {"dataset_dir": folder / "nowhere", "output_dir": tmp_path, "ckpt_dir": folder / "models"}
    images = [{"image": case["image"]} for case in listed["new"]]
    run("infer", ["inference.json"], **paths, **{"dataset::data": images})
    maps = sorted(tmp_path.glob("*_seg.nii.gz"))
    assert len(maps) == 2
    for file, case in zip(maps, images):
        found, image = nib.load(file), nib.load(case["image"])
        assert found.shape == image.shape and np.allclose(found.affine, image.affine)


@pytest.mark.parametrize("case", [{"image": "a.nii.gz"}, "a.nii.gz", {"image": ["a.nii.gz"], "label": "b.nii.gz"}])
def test_what_is_no_case_is_one_line(case, listed, tmp_path):
    paths = {"dataset_dir": tmp_path / "nowhere", "output_dir": tmp_path, "ckpt_dir": tmp_path / "models"}
    lists = {"train::dataset::data": listed["training"], "validate::dataset::data": [*listed["validation"], case]}
    made = workflow("train", ["train.json"], **paths, **lists)
    made.initialize()
    message = refusal(made.run)
    assert message.startswith(f"validate::dataset::data: found {case!r}; expected cases such as")
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").glob("*.pt"))
