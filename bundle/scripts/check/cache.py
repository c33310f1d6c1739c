"""Remembers what the data check found in each file, so that unchanged files are not read again.

The data check and the class weights use it.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from scripts.check.nifti import RULES
from scripts.check.pictures import image_stamp, inspect_image
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.data.slices import FolderNames

MEMORY_NAME = ".check_memory.json"


def inspect_or_error(path: str, kept: dict | None = None, listed: FolderNames | None = None) -> dict:
    """Returns the facts on an image (see `inspect_image`), or {"error": line} if it can't be used."""
    try:
        return inspect_image(path, kept, listed)
    except UserError as error:
        return {"error": str(error)}


def collect_facts(paths: Sequence[str], memory: Path | None, workers: int, fresh: bool) -> tuple[dict[str, dict], int]:
    """Collects the facts on files, in several threads.

    Args:
        paths: of images and labels.
        memory: file that remembers the facts; None reads all files.
        workers: number of threads; 0 for one per core.
        fresh: read all files, even those that have not changed.

    Returns:
        Facts or {"error": line} by path, and the number of files that were read.
    """
    paths = list(dict.fromkeys(paths))
    remembered = read_memory(memory) if memory else {}
    listed = FolderNames()

    def look(path: str) -> tuple[dict, list[int] | None]:
        try:
            now = image_stamp(path, listed)  # before reading: a file that changes meanwhile is read again next time
        except (OSError, ValueError):
            return inspect_or_error(path, None, listed), None
        known = remembered.get(path, {})
        if known.get("stamp") == now and not fresh:
            return known["facts"], None
        return inspect_or_error(path, None, listed), now

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
