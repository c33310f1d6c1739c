"""What the knobs at the top of the configurations may be: a wrong one is refused before anything is built."""

import math
from collections.abc import Sequence

import torch

from scripts.core.errors import UserError

INF = math.inf
WHOLE = {  # knob: smallest and largest value
    "spatial_dims": (2, 3),
    "in_channels": (1, 64),
    "slices_per_scan": (1, INF),
    "convolutions": (1, 16),
    "kernel": (1, 15),
    "first_kernel": (1, 15),
    "epochs": (1, INF),
    "batch_size": (1, INF),
    "copies": (1, 1000),
    "accumulation_steps": (1, INF),
    "features": (1, 1024),
    "val_interval": (1, INF),
    "picture_interval": (1, INF),
    "early_stop_patience": (0, INF),
    "seed": (0, 2**32 - 1),
    "folds": (0, INF),
    "fold": (0, INF),
    "flip_axis": (0, 2),
    "cache_workers": (0, INF),
    "num_workers": (0, INF),
}
NUMBER = {
    "dropout": (0, 1),
    "learning_rate": (0, INF),
    "lr_decay": (0, 1),
    "weight_decay": (0, INF),
    "ce_weight": (0, INF),
    "rotate_range": (0, math.pi),
    "scale_range": (0, 1),
    "shift_range": (0, 1),
    "flip_probability": (0, 1),
    "contrast_probability": (0, 1),
    "noise_std": (0, INF),
    "crop_share": (0, 1),
    "elastic_shift": (0, 0.0625),
    "validation_share": (0, 1),
    "test_share": (0, 1),
    "cache_rate": (0, 1),
    "window_overlap": (0, 1),
    "tolerance_mm": (0, INF),
}
ABOVE_LOWEST = {"lr_decay", "crop_share"}  # 0 itself makes no sense
BELOW_HIGHEST = {"dropout", "scale_range", "validation_share", "test_share", "window_overlap"}
SWITCH = (
    "resume",
    "resume_changed",
    "keep_last",
    "schedule_by_epoch",
    "half",
    "by_slice",
    "amp",
    "keep_largest",
    "sliding_window",
    "pictures",
    "debug",
)
OPTIONAL = ("fold",)


def check(knobs: dict) -> None:
    """Refuses the first knob whose type or range is wrong.

    Args:
        knobs: values by name; a name that no rule knows is let pass.
    """
    for name, value in knobs.items():
        if value is None and name in OPTIONAL:
            continue
        if name == "class_names":
            check_class_names(value)
        if name == "device":
            check_device(value)
        if name in SWITCH and not isinstance(value, bool):
            raise UserError(f"{name} is {value!r}: expected True or False, say --{name} True")
        if name in WHOLE:
            whole = isinstance(value, int) and not isinstance(value, bool)
            in_range(name, value, whole, "a whole number", WHOLE[name])
        if name in NUMBER:
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            in_range(name, value, number, "a number", NUMBER[name])
        if name == "mirror_axes" and not is_axes(value):
            raise UserError(f'{name} is {value!r}: expected a list of axes out of 0, 1, 2; say --{name} "[0]"')
        if name == "spatial_size" and not is_size(value):
            raise UserError(f'{name} is {value!r}: expected 2 or 3 whole numbers above 0, say --{name} "[128,128,64]"')


def check_class_names(names: Sequence[str]) -> list[str]:
    """The names of the values 0, 1, ..., background first; what can't be such a list is refused."""
    plain = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not plain or not 1 < len(set(names)) == len(names):
        raise UserError(
            f"class_names is {names!r}: expected a list of two or more different names, background first, "
            "as in --class_names \"['background','prostate']\""
        )
    return list(names)


def check_device(device: str | torch.device) -> None:
    """Refuses a device that this machine does not have."""
    try:
        torch.empty(0, device=torch.device(device))
    except Exception as error:  # torch raises many kinds
        found = "cpu" + "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))
        raise UserError(f"device is {device!r}: expected one of this machine ({found}); say --device cpu") from error


def in_range(name: str, value, right_type: bool, kind: str, limits: tuple) -> None:
    low, high = limits
    fits = right_type and low <= value <= high
    fits = fits and not (name in ABOVE_LOWEST and value == low) and not (name in BELOW_HIGHEST and value == high)
    if not fits:
        lower = f"above {low}" if name in ABOVE_LOWEST else f"from {low}"
        upper = (
            ""
            if high == INF
            else f" to below {high}"
            if name in BELOW_HIGHEST
            else f" to {high if isinstance(high, int) else round(high, 4)}"
        )
        raise UserError(f"{name} is {value!r}: expected {kind} {lower}{upper}; give another --{name}")


def is_axes(value) -> bool:
    return isinstance(value, list | tuple) and len(set(map(repr, value)) & {"0", "1", "2"}) == len(value)


def is_size(value) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) in (2, 3)
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value)
    )


def check_knobs(knobs: Sequence[dict]) -> None:
    """Checks type and range of the knobs.

    Args:
        knobs: values by name, in one or more parts.
    """
    for values in knobs:
        check(values)
