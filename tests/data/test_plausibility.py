"""Plausibility without truth: volumes, pieces and contact with the border, compared with the training data."""

import nibabel as nib
import numpy as np
import pytest
from helpers import refusal, save_labels

from scripts.data.plausibility import describe_labels, find_doubts, training_ranges

NAMES = ["background", "body", "bladder"]
AFFINE = np.diag([-10.0, 10.0, 20.0, 1.0])  # a voxel has 2 ml


def volume(*boxes) -> np.ndarray:
    labels = np.zeros((12, 12, 12), np.uint8)
    for value, box in boxes:
        labels[box] = value
    return labels


def cube(start, stop):
    return (slice(start, stop),) * 3


def test_volume_pieces_and_border():
    labels = volume((1, cube(0, 4)), (2, cube(5, 7)), (2, cube(8, 9)))
    assert describe_labels(labels, AFFINE, NAMES) == {
        "body": {"ml": pytest.approx(128), "pieces": 1, "border": True},
        "bladder": {"ml": pytest.approx(18), "pieces": 2, "border": False},
    }


@pytest.mark.parametrize("face", [(0, 0), (0, 11), (1, 0), (1, 11), (2, 0), (2, 11)])
def test_every_face_is_a_border(face):
    labels = volume((2, cube(5, 7)))
    axis, index = face
    np.moveaxis(labels, axis, 0)[index, 5, 5] = 2
    assert describe_labels(labels, AFFINE, NAMES)["bladder"]["border"]


def test_pieces_that_touch_by_a_corner_are_one():
    labels = volume((1, cube(2, 4)), (1, cube(4, 6)))
    assert describe_labels(labels, AFFINE, NAMES)["body"]["pieces"] == 1
    assert describe_labels(volume((1, cube(2, 4)), (1, cube(5, 6))), AFFINE, NAMES)["body"]["pieces"] == 2


def test_specks_are_no_pieces_unless_there_is_nothing_else():
    fine = AFFINE / [[10], [10], [10], [1]]  # a voxel has 0.002 ml
    labels = volume((2, cube(2, 6)), (2, cube(8, 9)))  # 0.128 ml and a speck
    assert describe_labels(labels, fine, NAMES)["bladder"]["pieces"] == 1
    assert describe_labels(volume((2, cube(8, 9))), fine, NAMES)["bladder"]["pieces"] == 1


def test_nothing_there():
    assert describe_labels(volume(), AFFINE, NAMES)["bladder"] == {"ml": 0.0, "pieces": 0, "border": False}


def test_a_sheared_voxel_has_its_own_volume():
    sheared = AFFINE.copy()
    sheared[0, 1] = 7
    assert describe_labels(volume((1, cube(2, 4))), sheared, NAMES)["body"]["ml"] == pytest.approx(16)


@pytest.fixture
def training(tmp_path):
    maps = [
        volume((1, cube(0, 4)), (2, cube(5, 7))),
        volume((1, cube(1, 4)), (2, cube(5, 8))),
        volume((1, cube(0, 5)), (1, cube(6, 7))),
    ]
    return [{"label": str(save_labels(tmp_path / f"{i}.nii.gz", labels, AFFINE))} for i, labels in enumerate(maps)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_ranges_of_the_training_data(workers, training):
    assert training_ranges(training, NAMES, workers) == {
        "body": {"ml": pytest.approx([54, 252]), "pieces": 2, "border": pytest.approx(2 / 3), "n": 3},
        "bladder": {"ml": pytest.approx([16, 54]), "pieces": 1, "border": 0.0, "n": 2},
    }


def test_a_label_that_is_no_label_stops_the_training_before_it_begins(training):
    nib.save(nib.Nifti1Image(volume((7, cube(2, 4))), AFFINE), training[1]["label"])
    assert refusal(training_ranges, training, NAMES).startswith(f"{training[1]['label']}: found label 7")


FINE = {"ml": 100.0, "pieces": 1, "border": False}
KNOWN = {"body": {"ml": [80.0, 120.0], "pieces": 2, "border": 0.5, "n": 9}}


@pytest.mark.parametrize(
    "change, known, words",
    [
        ({}, KNOWN, []),
        ({}, None, []),
        ({"ml": 0.0, "pieces": 0}, KNOWN, ["body: missing"]),
        ({"ml": 0.0, "pieces": 0}, None, ["body: missing"]),
        ({"ml": 130.0}, KNOWN, ["body: 130.0 ml, 80.0 to 120.0 ml in the training data"]),
        ({"ml": 79.0}, KNOWN, ["body: 79.0 ml"]),
        ({"ml": 130.0}, {}, []),
        ({"pieces": 3}, KNOWN, ["body: 3 separate pieces, at most 2"]),
        ({"pieces": 2}, KNOWN, []),
        ({"pieces": 11}, None, ["body: 11 separate pieces"]),
        ({"border": True}, KNOWN, []),
        ({"border": True}, {"body": {**KNOWN["body"], "border": 0.01}}, ["body: touches the border"]),
        ({"border": True}, None, ["body: touches the border"]),
        ({"border": True, "pieces": 12, "ml": 1.0}, {"body": {**KNOWN["body"], "border": 0}}, ["border", "12", "1.0"]),
    ],
)
def test_doubts(change, known, words):
    lines = find_doubts({"body": FINE | change}, known)
    assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines))
