"""The sha256 of files, slices among them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from monai.utils import ensure_tuple

from scripts.data.slices import scan_files


def sha256_of_files(files: str | Path | Sequence[str]) -> str:
    """The sha256 of a file, as `sha256sum` prints it; of slices, or several files, that of all of them in a row."""
    found = hashlib.sha256()
    for file in ensure_tuple(files):
        for member in scan_files(file):
            found.update(member.read_bytes())
    return found.hexdigest()
