"""Reading and writing torch files safely: written in one step, and checked for damage when they are read.

A file that torch saves is a zip archive, and a zip archive holds a checksum of each of its parts. So damage to the
content is noticed without any further file. A file takes its place in one step, so a kill at any instant leaves either
the old file or the new one.
"""

import hashlib
import io
import logging
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import torch

from scripts.core import files
from scripts.core.errors import UserError
from scripts.core.files import atomic_write, replace_file

logger = logging.getLogger(__name__)


def write_checkpoint(content: dict, file: Path, previous: Path | None = None) -> None:
    """Writes a file that torch can load.

    Args:
        content: what `torch.save` takes.
        file: where it is written.
        previous: the name that the present file at this place is given, so that it is kept.
    """
    write_bytes(serialised(content), file, previous)


def serialised(content: dict) -> bytes:
    """A checkpoint as bytes: their number and their sha256 are needed before they are on disk."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_bytes(data: bytes, file: Path, previous: Path | None = None) -> None:
    """Writes a file in one step; the present file at this place may be kept under the name `previous`."""
    with atomic_write(file, len(data)) as partial:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # before the present file is renamed, the new one must be complete on disk
        if previous is not None and file.is_file():
            replace_file(file, previous)
            old_digest(previous).unlink(missing_ok=True)
    old_digest(file).unlink(missing_ok=True)


def old_digest(file: Path) -> Path:
    """`model.pt.sha256`, which earlier versions wrote; it is deleted when the file that it describes is replaced."""
    return file.with_name(f"{file.name}.sha256")


def rename_previous(file: Path) -> None:
    """Renames the checkpoint of an earlier run, `last.pt` to `last.1.pt` and so on."""
    files.rename_previous(file)
    old_digest(file).unlink(missing_ok=True)


def clean_up_after_kill(file: Path) -> None:
    """Deletes unfinished files that a killed run has left. Only for a run that has locked the folder."""
    for rest in file.parent.glob(f".{file.name}.*.partial"):
        rest.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_checkpoint(file: Path) -> dict:
    """Reads a file that torch has saved. No code that it may contain is run.

    Raises:
        UserError: the file is of another kind, incomplete or damaged, or holds other things than tensors and values.
    """
    file = Path(file)
    return parse_checkpoint(file.read_bytes(), file)


def parse_checkpoint(data: bytes, file: Path) -> dict:
    """The content of a torch file from its bytes; `file` is its name for the messages."""
    refuse_other_kinds(file, data)
    refuse_damage(file, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on a hostile file is not for the user to follow
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a file that is no checkpoint or a damaged one
        unsafe = isinstance(error, pickle.UnpicklingError)
        why = "it holds more than tensors and plain values; no code in it was run" if unsafe else type(error).__name__
        raise UserError(f"{file}: not a readable checkpoint ({why}); fetch or train it again") from error
    if not isinstance(saved, dict):
        raise UserError(
            f"{file}: holds a {type(saved).__name__}, expected a dictionary of weights; fetch or train it again"
        )
    return saved


def refuse_other_kinds(file: Path, data: bytes) -> None:
    """Says what the file is, for the kinds of files that are often found in place of a checkpoint."""
    start = data[:1000].lstrip().lower()
    if not data:
        found = "an empty file; fetch or train it again"
    elif start.startswith(b"version https://git-lfs"):
        found = "a Git LFS pointer, not the file itself; fetch that with `git lfs pull`"
    elif start.startswith((b"<!doctype html", b"<html")):
        found = "an HTML page, not a checkpoint; the download returned a login or error page, fetch it again"
    elif data.startswith(b"PK\3\4") and not has_directory(data):
        found = f"a truncated checkpoint, its end is missing after {len(data):,} bytes; fetch or train it again"
    else:
        return
    raise UserError(f"{file}: {found}")


def has_directory(data: bytes) -> bool:
    """Whether the directory at the end of a zip archive is there, even if it is damaged."""
    try:
        return zipfile.is_zipfile(io.BytesIO(data))
    except zipfile.BadZipFile:
        return True


def refuse_damage(file: Path, data: bytes) -> None:
    """Compares every part of the zip archive with its checksum; torch itself does not, and would load wrong weights."""
    if not data.startswith(b"PK"):
        return  # a file of another format, which torch refuses, or one of torch's oldest, which has no checksums
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises many kinds of errors for a damaged archive
        raise UserError(
            f"{file}: not a readable checkpoint (the archive is damaged: {type(error).__name__}); "
            "fetch or train it again"
        ) from error
    if damaged is not None:
        raise UserError(
            f"{file}: damaged, its part {damaged} does not agree with its checksum; fetch or train it again"
        )


def newest_readable(files: list[Path], keys: list[str]) -> tuple[Path, dict]:
    """The first of the files that can be read and holds all `keys`; warns of those before it."""
    wrong = []
    for file in files:
        try:
            saved = read_checkpoint(file)
            missing = [key for key in keys if key not in saved]
            if missing:
                raise UserError(f"{file}: a run can't be resumed from it, it lacks {', '.join(missing)}")
        except UserError as error:
            wrong.append(str(error))
            continue
        for message in wrong:
            logger.warning(f"{message}. Resuming from {file.name} instead")
        return file, saved
    raise UserError(f"{' | '.join(wrong)} | no complete checkpoint to resume from; leave out --resume to start anew")
