"""The sha256 of files, of stacks of slices and of series. Reports and the record of an inference contain it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from monai.utils import ensure_tuple

from scripts.data.slices import scan_files
from scripts.series.index import is_series
from scripts.series.reader import series_files


def sha256_of_files(files: str | Path | Sequence[str]) -> str:
    """Returns the sha256 of a file, as `sha256sum` prints it, or of several one after the other: files, slices, or the
    files of a series."""
    found = hashlib.sha256()
    for file in ensure_tuple(files):
        if is_series(file):
            for part in series_files(file):
                found.update(part.read())
        else:
            for member in scan_files(file):
                found.update(member.read_bytes())
    return found.hexdigest()
