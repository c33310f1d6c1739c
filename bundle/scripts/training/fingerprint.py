"""What a training run is made of, kept with its state, so that a resumed run is the same run."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch


def fingerprint(network: torch.nn.Module, data: Mapping, settings: Mapping) -> dict:
    """Plain values by name: every knob in `settings`, both lists of cases, and the network's class and shapes.

    Args:
        network: bare, not wrapped for several processes.
        data: with `training` and `validation`, lists of {"image", "label"}; empty where there are none.
        settings: the knobs that shape the training.
    """
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    found = {name: plain(value) for name, value in settings.items()}
    # bookkeeping of a subclass, such as its checkpointing, changes no number, and a printed module depends on torch
    found["network_def"] = f"{type(network).__name__}, {parameters:,} parameters, sha256 {digest(shapes)}"
    for split in ("training", "validation"):
        if split in data:
            found[f"{split} cases"] = f"{len(data[split])}, sha256 {digest(relative(data[split]))}"
    return found


def changes(before: Mapping, now: Mapping) -> list[str]:
    """One text for every value that is not what it was; names that only one side knows are left out."""
    return [
        f"{name} was {before[name]}, is {now[name]}" for name in now if name in before and before[name] != now[name]
    ]


def relative(cases: Sequence[Mapping]) -> list[list[str]]:
    """Paths of the cases from the folder that all of them share: a data set may move as a whole."""
    paths = [[str(case[key]) for key in ("image", "label") if key in case] for case in cases]
    every = [path for case in paths for path in case]
    root = os.path.commonpath(map(os.path.dirname, every)) if every else ""
    return [[Path(os.path.relpath(path, root)).as_posix() for path in case] for case in paths]


def plain(value: object) -> object:
    """As JSON gives it back: lists for tuples, texts for what is neither number, text nor list."""
    return json.loads(json.dumps(value, default=str))


def digest(value: object) -> str:
    """Enough of a sha256 to tell two values apart by eye."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
