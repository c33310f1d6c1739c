"""What the data check has found in each file, for as long as the file stays as it is."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from scripts.check.nifti import RULES
from scripts.check.pictures import image_stamp, inspect_image
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json

MEMORY_NAME = ".check_memory.json"


def inspect_or_error(path: str, kept: dict | None = None) -> dict:
    try:
        return inspect_image(path, kept)
    except UserError as error:
        return {"error": str(error)}


def collect_facts(paths: Sequence[str], memory: Path | None, workers: int, fresh: bool) -> tuple[dict[str, dict], int]:
    """Facts on every file by path, and how many files had to be read for them."""
    paths = list(dict.fromkeys(paths))
    remembered = read_memory(memory) if memory else {}

    def look(path: str) -> tuple[dict, list[int] | None]:
        try:
            now = image_stamp(path)  # before reading: what changes meanwhile is read again the next time
        except (OSError, ValueError):
            return inspect_or_error(path), None
        known = remembered.get(path, {})
        return (known["facts"], None) if known.get("stamp") == now and not fresh else (inspect_or_error(path), now)

    found: dict[str, dict] = {}
    new: dict[str, dict] = {}
    read = 0
    try:
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            looked = tqdm(pool.map(look, paths), total=len(paths), desc="data check", unit="file", disable=None)
            for path, (facts, now) in zip(paths, looked, strict=True):
                found[path] = facts
                read += now is not None
                if now and "error" not in facts:  # an error may have been the disk's; it is looked at each time
                    new[path] = {"stamp": now, "facts": facts}
    finally:  # an interrupted check goes on where it was
        if memory and new:
            write_json({"rules": RULES, "files": remembered | new}, memory, indent=1)
    return found, read


def read_memory(memory: Path) -> dict[str, dict]:
    """What an earlier check under the same rules has kept; nothing where that can't be told."""
    try:
        kept = read_json(memory) if memory.is_file() else {}
    except UserError:
        return {}
    return kept["files"] if kept.get("rules") == RULES and isinstance(kept.get("files"), dict) else {}
