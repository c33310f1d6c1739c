"""Small things that several test files need."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from scripts.errors import UserError


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
