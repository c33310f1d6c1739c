"""Writing so that nothing done gets lost: a file is whole or as it was, and an earlier run's is renamed."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.core.errors import UserError

logger = logging.getLogger(__name__)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, the user's share of it, the largest file


@contextmanager
def atomic_write(file: Path, needed: int | None = None) -> Iterator[Path]:
    """Gives a path beside `file`; what is written there is forced to disk and takes its place, or is thrown away.

    Args:
        file: what is to be written.
        needed: its size in bytes, where that is known beforehand, for the message.

    Raises:
        UserError: no room on the disk; `file` is as it was.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with room_for(file, needed):
            file.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
            replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_json(content: dict, file: Path, indent: int | None = 2) -> None:
    """Writes JSON, whole or not at all; None as `indent` puts it on one line."""
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


@contextmanager
def room_for(file: Path, needed: int | None = None) -> Iterator[None]:
    """Says a full disk in one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(no_room(file, error, needed)) from error


def no_room(file: Path, error: OSError, needed: int | None = None) -> str:
    """The line for a full disk."""
    asked = f"{needed:,} bytes are needed" if needed else "it could not be written"
    there = next(folder for folder in (file.parent, *file.absolute().parents) if folder.is_dir())
    return (
        f"{file}: {asked}, {shutil.disk_usage(there).free:,} are free there ({os.strerror(error.errno or 0)}); "
        "what was written before is intact. Make room, or name another folder"
    )


def replace(source: Path, target: Path) -> None:
    """Renames within a folder so that the new name outlasts a power cut."""
    os.replace(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows can't open a folder
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network shares know no such thing
            raise
    finally:
        os.close(handle)


def spare_name(file: Path) -> Path:
    """The first of `model.1.pt`, `model.2.pt`, ... that is free."""
    number = 1
    while (spare := file.with_name(f"{file.stem}.{number}{file.suffix}")).exists():
        number += 1
    return spare


def rename_previous(file: Path) -> None:
    """Renames what an earlier run left, `model.pt` to `model.1.pt` and so on."""
    if file.exists():
        kept = spare_name(file)
        replace(file, kept)
        logger.info(f"{file} of an earlier run is kept as {kept.name}")


def read_json(path: Path) -> dict:
    """A JSON object from a file; anything else is refused in one line."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); mend it or delete it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected a JSON object {{...}}")
    return content
