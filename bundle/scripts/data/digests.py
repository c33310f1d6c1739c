"""The sha256 of files and of stacks of slices. Reports and the record of an inference contain it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from monai.utils import ensure_tuple

from scripts.data.slices import scan_files


def sha256_of_files(files: str | Path | Sequence[str]) -> str:
    """Returns the sha256 of a file, as `sha256sum` prints it, or of several files or slices one after the other."""
    found = hashlib.sha256()
    for file in ensure_tuple(files):
        for member in scan_files(file):
            found.update(member.read_bytes())
    return found.hexdigest()
