"""Small things that several test files need."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.core.errors import UserError


def refusal(call: Callable, *args, **kwargs) -> str:
    """The message of the UserError that the call ends in: always exactly one line."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert message.strip() and len(message.splitlines()) == 1
    return message


def stubs(root: Path, names: Iterable[str]) -> Path:
    """Empty files, enough wherever only names are read."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def rows(file: Path) -> list[dict]:
    """The rows of a CSV file by column name."""
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def measured(file: Path, measure: str = "Dice") -> dict[str, dict[str, float]]:
    """One measure of a `metrics.csv`, by case and class; NaN where the field is empty."""
    table: dict[str, dict[str, float]] = {}
    for row in rows(file):
        if row["measure"] == measure:
            table.setdefault(row["case"], {})[row["class"]] = float(row["value"] or "nan")
    return table


def save_labels(path: Path, labels, affine=None, dtype=np.uint8) -> Path:
    """A label map as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(labels).astype(dtype), np.eye(4) if affine is None else affine), path)
    return path
