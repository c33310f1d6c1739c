"""A resumed run must be the run that was saved: settings, objects and cases, whatever way they were changed."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from helpers import refusal
from monai.losses import DiceCELoss, DiceLoss
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from scripts.training.run_identity import RunIdentity

KNOBS = {"batch_size": 2, "spatial_size": [32, 32, 16], "learning_rate": 0.1, "noise_std": 0.25}
CASES = {
    "training": [{"image": f"/data/images/{i}.nii", "label": f"/data/labels/{i}.nii"} for i in range(3)],
    "validation": [{"image": "/data/images/9.nii", "label": "/data/labels/9.nii"}],
}
FILE = Path("folder/last.pt")


def identity(knobs=KNOBS, cases=CASES, allow_changes=False, **parts) -> RunIdentity:
    knobs = {**KNOBS, **knobs}
    network = torch.nn.Conv3d(1, 2, 3)
    made = {
        "network_def": network,
        "loss": DiceCELoss(softmax=True),
        "optimizer": torch.optim.Adam(network.parameters(), lr=knobs["learning_rate"]),
        "chain": Compose([RandGaussianNoised("image", std=knobs["noise_std"]), RandFlipd("image", prob=0.5)]),
        "sizes": {"batch": knobs["batch_size"], "spatial": knobs["spatial_size"]},
    }
    return RunIdentity({**made, **parts}, knobs, cases, allow_changes)


def compare(now: RunIdentity, before: RunIdentity) -> None:
    now.compare({"identity": deepcopy(before.state_dict())}, FILE)


@pytest.mark.parametrize(
    "now, words",
    [
        ({"knobs": {"batch_size": 4}}, ["batch_size was 2, is 4"]),
        ({"knobs": {"spatial_size": (32, 32, 32)}}, ["spatial_size was [32, 32, 16], is [32, 32, 32]"]),
        (
            {"knobs": {"noise_std": 0.5, "learning_rate": 0.2}},
            ["noise_std was 0.25, is 0.5", "learning_rate was 0.1, is 0.2"],
        ),
        ({"cases": {**CASES, "training": CASES["training"][:2]}}, ["training cases was 3, sha256", "is 2, sha256"]),
        ({"cases": {**CASES, "training": CASES["training"][::-1]}}, ["training cases was 3, sha256", "is 3, sha256"]),
        ({"cases": {**CASES, "validation": CASES["training"][:1]}}, ["validation cases was 1, sha256"]),
        ({"loss": DiceLoss(softmax=True)}, ["loss was DiceCELoss, is DiceLoss"]),
        ({"loss": DiceCELoss(softmax=True, lambda_ce=5)}, ["loss::lambda_ce was 1.0, is 5"]),
        ({"loss": DiceCELoss(softmax=True, jaccard=True)}, ["loss::dice::jaccard was False, is True"]),
        ({"loss": DiceCELoss(softmax=True, weight=torch.ones(2))}, ["::pos_weight was None, is tensor [2] torch"]),
        ({"network_def": torch.nn.Conv3d(1, 2, 1)}, ["network_def was Conv3d, 56 parameters", "is Conv3d, 4 param"]),
        (
            {"network_def": torch.nn.Conv3d(1, 2, 3, padding=1)},
            ["network_def::padding was [0, 0, 0], is [1, 1, 1]"],
        ),
        (
            {"chain": Compose([RandFlipd("image", prob=0.5)])},
            ["chain::transforms was ['RandGaussianNoised', 'RandFlipd'], is ['RandFlipd']"],
        ),
        ({"extra": 3}, ["extra was (nothing), is 3"]),
    ],
)
def test_a_change_is_named_and_refused_unless_it_is_allowed(now, words, caplog):
    before = identity()
    message = refusal(compare, identity(**now), before)
    assert all(word in message for word in [str(FILE), "--resume_changed True", *words])
    assert message.count(" was ") == sum(word.count(" was ") for word in words)  # and nothing else
    compare(identity(**now, allow_changes=True), before)
    assert any(record.levelname == "WARNING" and words[0] in record.message for record in caplog.records)


def test_many_changes_are_counted():
    parts = {f"part{number}": number for number in range(10)}
    message = refusal(compare, identity(**dict.fromkeys(parts, 99)), identity(**parts))
    assert message.count(" was ") == 6 and "; and 4 more" in message


def test_long_lists_are_shown_where_they_differ():
    steps = [RandFlipd("image") for _ in range(30)]
    now = identity(chain=Compose([*steps[:12], RandGaussianNoised("image"), *steps[13:]]))
    message = refusal(compare, now, identity(chain=Compose(steps)))
    assert "chain::transforms was [..., RandFlipd, ...], is [..., RandGaussianNoised, ...]" in message


def test_a_change_that_is_allowed_is_not_named_beside_one_that_is_not():
    message = refusal(compare, identity({"epochs": 9, "batch_size": 4}), identity({"epochs": 5}))
    assert "batch_size was 2, is 4" in message and "epochs" not in message
    message = refusal(compare, identity({"epochs": 9}, extra=3), identity({"epochs": 5}))
    assert "extra was (nothing), is 3" in message and "epochs" in message  # which may be the cause of it


def test_what_changes_nothing_may_change(caplog):
    """A moved data set, a knob that no object depends on, a tuple for a list, new weights in the network."""
    moved = {
        split: [{key: path.replace("/data", "/mnt/x") for key, path in case.items()} for case in cases]
        for split, cases in CASES.items()
    }
    compare(identity(cases=moved, knobs={"spatial_size": (32, 32, 16), "num_workers": 3}), identity())
    assert not caplog.records
