"""Types and ranges of the knobs at the top of the configurations."""

import json

import pytest
import torch
from conftest import CONFIGS
from helpers import refusal

from scripts.run.knobs import NUMBER, SWITCH, WHOLE, check, check_class_names


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("epochs", 2.5), ("epochs", 0), ("epochs", -1), ("epochs", "3"), ("epochs", None), ("epochs", True),
        ("batch_size", 0), ("seed", -1), ("seed", 2**32), ("flip_axis", 3), ("fold", -1), ("num_workers", -1),
        ("learning_rate", -0.1), ("learning_rate", "1e-3"), ("learning_rate", float("nan")),
        ("learning_rate", float("inf")), ("lr_decay", 0), ("lr_decay", 1.1), ("dropout", 1), ("dropout", -0.1),
        ("test_share", 1), ("cache_rate", 1.5), ("window_overlap", 1.0), ("tolerance_mm", -1), ("rotate_range", 4),
        ("resume", 1), ("resume", "yes"), ("keep_largest", None), ("pictures", 0),
        ("spatial_size", 64), ("spatial_size", [64]), ("spatial_size", [64, 64, 0]), ("spatial_size", [64, 64, 3.5]),
        ("class_names", "background"), ("class_names", ["background"]), ("class_names", []), ("class_names", 3),
        ("class_names", ["background", "body", "body"]), ("class_names", ["background", 1]), ("class_names", None),
        ("mirror_axes", 0), ("mirror_axes", [3]), ("mirror_axes", [0, 0]), ("mirror_axes", [True]),
        ("mirror_axes", None),
        ("device", "gpu7"), ("device", "cuda:99"), ("device", "cpu:x"), ("device", None), ("device", [0]),
    ],
)  # fmt: skip
def test_what_can_not_be_meant(name, wrong):
    message = refusal(check, {name: wrong})
    assert message.startswith(f"{name} is {wrong!r}: expected") and f"--{name}" in message


@pytest.mark.parametrize(
    "name, right",
    [
        ("epochs", 1), ("seed", 0), ("fold", None), ("fold", 0), ("learning_rate", 0), ("lr_decay", 1), ("dropout", 0),
        ("dropout", 0.99), ("test_share", 0), ("flip_axis", 2), ("num_workers", 0), ("spatial_size", [32, 32]),
        ("spatial_size", (32, 48, 16)), ("resume", True), ("some_other", "anything"),
        ("class_names", ["background", "body"]), ("mirror_axes", []), ("mirror_axes", (0, 2)),
        ("device", "cpu"), ("device", torch.device("cpu")),
    ],
)  # fmt: skip
def test_what_can(name, right):
    check({name: right})


def test_limits_are_named_in_full():
    assert "from 0 to 4294967295;" in refusal(check, {"seed": -1})
    assert "from 0 to 3.1416;" in refusal(check, {"rotate_range": 4})
    assert "above 0 to 1;" in refusal(check, {"lr_decay": 0}) and "to below 1;" in refusal(check, {"dropout": 1})


def test_class_names_may_be_a_tuple():
    assert check_class_names(("background", "body")) == ["background", "body"]


@pytest.mark.parametrize("name", ["train", "inference", "evaluate"])
def test_every_number_of_a_configuration_is_checked(name):
    """A knob that is added to a configuration wants a rule here and a place in its entry `knobs`."""
    content = json.loads((CONFIGS / f"{name}.json").read_text())
    base = json.loads((CONFIGS / "train.json").read_text()) | content
    plain = {key for key, value in content.items() if isinstance(value, int | float) and "::" not in key}
    listed = {}
    for part in content["knobs::knobs"] if name == "evaluate" else content["knobs"]["knobs"]:
        listed |= base[part[1:]] if isinstance(part, str) else part
    given = {key for key, value in listed.items() if value == f"@{key}"}
    assert listed.keys() == given
    assert plain - {"main_process", "anonymise"} | {"class_names", "spatial_size", "device", "amp"} <= given
    assert given <= {*WHOLE, *NUMBER, *SWITCH, "spatial_size", "class_names", "device", "mirror_axes"}


def test_the_shipped_values_pass():
    for name in ("train", "inference", "evaluate", "demo", "resize_last"):
        check(json.loads((CONFIGS / f"{name}.json").read_text()) | {"num_workers": 1, "amp": False, "device": "cpu"})
