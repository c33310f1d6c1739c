"""Atomic writing: a file is either complete or as it was before, and the file of an earlier run is renamed.

Everything that writes results uses this module.
"""

import csv
import errno
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.core.errors import UserError

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota exceeded, file too large

NOT_WRITABLE = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def atomic_write(file: Path, needed: int | None = None) -> Iterator[Path]:
    """Yields a temporary path in the folder of `file`. What is written there is synced to disk and replaces `file`.

    If an error occurs, the temporary file is deleted and `file` stays as it was.

    Args:
        file: the file to write.
        needed: its size in bytes for the error message, if it is known beforehand.

    Raises:
        UserError: the disk is full, or the place can't be written to.
    """
    partial = file.with_name(f".{file.name}.{platform.node()}-{os.getpid()}.partial")  # two machines may share a folder
    try:
        with explain_full_disk(file, needed):
            file.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            flush(partial)
            replace_file(partial, file)
    except OSError as error:
        if error.errno in NOT_WRITABLE and str(error.filename) in map(str, (partial, *file.parents)):
            raise UserError(f"{file}: can't be written ({os.strerror(error.errno)}); name another place") from error
        raise
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)


def write_json(content: dict, file: Path, indent: int | None = 2) -> None:
    """Writes a JSON file atomically. If `indent` is None, the content is on one line."""
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def write_csv(rows: Iterable[Sequence], file: Path) -> None:
    """Writes a table atomically, its head first; None is an empty cell."""
    with atomic_write(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


@contextmanager
def explain_full_disk(file: Path, needed: int | None = None) -> Iterator[None]:
    """Turns the error of a full disk into a UserError of one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(disk_full_message(file, error, needed)) from error


def disk_full_message(file: Path, error: OSError, needed: int | None = None) -> str:
    """Returns the message for a full disk."""
    asked = f"{needed:,} bytes are needed" if needed else "it could not be written"
    there = next(folder for folder in (file.parent, *file.absolute().parents) if folder.is_dir())
    return (
        f"{file}: {asked}, {shutil.disk_usage(there).free:,} are free there ({os.strerror(error.errno or 0)}); "
        "what was written before is intact. Make room, or name another folder"
    )


def flush(file: Path) -> None:
    """Forces the content of a file to disk."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def replace_file(source: Path, target: Path) -> None:
    """Renames a file within its folder and syncs the folder, so that the new name survives a power cut."""
    os.replace(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Forces the names in a folder to disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows can't open a folder
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network shares don't support it
            raise
    finally:
        os.close(handle)


def unused_name(file: Path) -> Path:
    """Returns the first of `model.1.pt`, `model.2.pt`, ... that does not exist."""
    number = 1
    while (spare := file.with_name(f"{file.stem}.{number}{file.suffix}")).exists():
        number += 1
    return spare


def is_newer(file: Path, other: Path) -> bool:
    """Whether a file is there and was written after the other one, from which it is made."""
    return file.is_file() and file.stat().st_mtime_ns >= other.stat().st_mtime_ns


def rename_previous(file: Path) -> None:
    """Renames a file of an earlier run, if there is one: `model.pt` becomes `model.1.pt`, and so on."""
    if file.exists():
        kept = unused_name(file)
        replace_file(file, kept)
        logger.info(f"{file} of an earlier run is kept as {kept.name}")


def read_json(path: Path) -> dict:
    """Reads a JSON object from a file.

    Raises:
        UserError: the file is not JSON, or holds something other than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); fix it or delete it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected a JSON object {{...}}")
    return content
