"""Short digests of a run's cases, to tell whether two runs train on the same data."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def case_digests(data: Mapping) -> dict[str, str]:
    """The number of cases and a digest of their names, for training and validation.

    Args:
        data: lists of {"image", "label"} under `training` and `validation`.
    """
    return {
        f"{split} cases": f"{len(data[split])}, sha256 {digest(relative(data[split]))}"
        for split in ("training", "validation")
        if split in data
    }


def relative(cases: Sequence[Mapping]) -> list[list[str]]:
    """Paths of the cases from the folder that contains all of them, so that a data set may be moved."""
    paths = [[str(case[key]) for key in ("image", "label") if key in case] for case in cases]
    every = [path for case in paths for path in case]
    root = os.path.commonpath(map(os.path.dirname, every)) if every else ""
    return [[Path(os.path.relpath(path, root)).as_posix() for path in case] for case in paths]


def plain(value: object) -> object:
    """As JSON gives it back: lists for tuples, texts for everything that is no number, text or list."""
    return json.loads(json.dumps(value, default=str))


def digest(value: object) -> str:
    """The first digits of a sha256: enough to tell two values apart."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
