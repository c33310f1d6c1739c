"""What a dataset.json says of its classes and of itself."""

import json

import pytest
from helpers import refusal

from scripts.data.decathlon import dataset_classes, dataset_description


@pytest.mark.parametrize(
    "labels, expected",
    [
        ({"0": "background", "2": "bones", "1": "body"}, ["background", "body", "bones"]),
        ({str(n): f"c{n}" for n in reversed(range(12))}, [f"c{n}" for n in range(12)]),  # 10 does not follow 1
        ({"bones": 2, "background": 0, "body": 1}, ["background", "body", "bones"]),
        ({}, None),
        (["background"], None),
        ({"background": 0, "whole": [1, 2]}, None),
    ],
)
def test_class_names_in_both_spellings(labels, expected, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert dataset_classes(tmp_path) == expected


def test_voxels_to_ignore_are_refused(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "ignore": 2}}))
    said = refusal(dataset_classes, tmp_path)
    assert said.startswith(f"{tmp_path / 'dataset.json'}: found the label ignore") and "value 2" in said


def test_no_class_names_without_a_dataset_json(tmp_path):
    assert dataset_classes(tmp_path) is None


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, "here"),
        ({"dataset.json": {"name": "Pelvis"}}, "Pelvis"),
        ({"dataset.json": {"name": "Pelvis", "description": "Weekly MR"}}, "Weekly MR"),
        ({"dataset.json": {"name": "Pelvis"}, "phantom.json": {"description": "synthetic"}}, "synthetic"),
    ],
)
def test_a_folder_describes_itself(files, expected, tmp_path):
    root = tmp_path / "here"
    root.mkdir()
    for name, content in files.items():
        (root / name).write_text(json.dumps(content))
    assert dataset_description(root) == expected
