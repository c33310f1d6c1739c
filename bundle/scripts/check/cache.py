"""Remembers what the data check found in each file, so that unchanged files are not read again.

The data check and the class weights use it.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.check.nifti import RULES
from scripts.check.pictures import image_stamp, inspect_image
from scripts.check.pieces import largest_pieces
from scripts.core.errors import UserError, refuse_negative
from scripts.core.files import read_json, write_json
from scripts.data.slices import FolderNames, is_sliced, read_slices

MEMORY_NAME = ".check_memory.json"


def inspect_or_error(path: str, kept: dict | None = None, listed: FolderNames | None = None) -> dict:
    """Returns the facts on an image (see `inspect_image`), or {"error": line} if it can't be used."""
    try:
        return inspect_image(path, kept, listed)
    except UserError as error:
        return {"error": str(error)}


def inspect_pieces(path: str, listed: FolderNames | None = None) -> dict:
    """Returns the facts on an image as `inspect_or_error`, and of a label map also `pieces`, from the same reading."""
    kept: dict = {}
    facts = inspect_or_error(path, kept, listed)
    if has_classes(facts):
        stack = is_sliced(path)
        values = read_slices(path, listed)[0] if stack else np.asanyarray(kept[path].dataobj) if path in kept else None
        facts["pieces"] = largest_pieces(values) if values is not None else {}
    return facts


def has_classes(facts: dict) -> bool:
    return bool(facts.get("places"))


def collect_facts(
    paths: Sequence[str], memory: Path | None, workers: int, fresh: bool, pieces: bool = False
) -> tuple[dict[str, dict], int]:
    """Collects the facts on files, in several threads.

    Args:
        paths: of images and labels.
        memory: file that remembers the facts; None reads all files.
        workers: number of threads; 0 for one per core.
        fresh: read all files, even those that have not changed.
        pieces: whether the facts on label maps shall have `pieces`, see `scripts.check.pieces.largest_pieces`.

    Returns:
        Facts or {"error": line} by path, and the number of files that were read.
    """
    paths = list(dict.fromkeys(paths))
    remembered = read_memory(memory) if memory else {}
    listed = FolderNames()
    inspect = partial(inspect_pieces if pieces else inspect_or_error, listed=listed)

    def look(path: str) -> tuple[dict, list[int] | None]:
        try:
            now = image_stamp(path, listed)  # before reading: a file that changes meanwhile is read again next time
        except (OSError, ValueError, UserError):  # the last one of a series that is no stack any more
            return inspect(path), None
        known = remembered.get(path, {})
        facts = known.get("facts", {})
        enough = not pieces or not has_classes(facts) or "pieces" in facts
        if known.get("stamp") == now and enough and not fresh:
            return facts, None
        return inspect(path), now

    refuse_negative(workers=workers)
    found: dict[str, dict] = {}
    new: dict[str, dict] = {}
    read = 0
    try:
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            looked = tqdm(pool.map(look, paths), total=len(paths), desc="data check", unit="file", disable=None)
            for path, (facts, now) in zip(paths, looked, strict=True):
                found[path] = facts
                read += now is not None
                if now and "error" not in facts:  # a file with an error is read each time: the disk may be the cause
                    new[path] = {"stamp": now, "facts": facts}
    finally:  # an interrupted check continues where it stopped
        if memory and new:
            write_json({"rules": RULES, "files": remembered | new}, memory, indent=1)
    return found, read


def read_memory(memory: Path) -> dict[str, dict]:
    """Returns what an earlier check has remembered. It is empty if the rules have changed or the file is damaged."""
    try:
        kept = read_json(memory) if memory.is_file() else {}
    except UserError:
        return {}
    return kept["files"] if kept.get("rules") == RULES and isinstance(kept.get("files"), dict) else {}
