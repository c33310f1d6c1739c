"""Types and ranges of the numbers at the top of the configurations."""

import json

import pytest
from conftest import CONFIGS
from helpers import refusal

from scripts.knobs import NUMBER, SWITCH, WHOLE, check


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
    ],
)  # fmt: skip
def test_what_can(name, right):
    check({name: right})


@pytest.mark.parametrize("name", ["train", "inference"])
def test_every_number_of_a_configuration_is_checked(name):
    """A knob that is added to a configuration wants a rule here and a place in the guard's entry."""
    content = json.loads((CONFIGS / f"{name}.json").read_text())
    plain = {key for key, value in content.items() if isinstance(value, int | float) and key != "anonymise"}
    listed = {}
    for part in content["guard"]["knobs"]:
        listed |= content["settings"] if part == "@settings" else part
    given = {key for key, value in listed.items() if value == f"@{key}"}
    assert plain - {"main_process", "debug"} <= given
    assert given <= {*WHOLE, *NUMBER, *SWITCH, "spatial_size"}


def test_the_shipped_values_pass():
    for name in ("train", "inference", "evaluate", "demo", "resize_last"):
        check(
            json.loads((CONFIGS / f"{name}.json").read_text())
            | {"num_workers": 1, "amp": False, "show_progress": False}
        )
