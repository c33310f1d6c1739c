"""Checkpoints on disk: each with its sha256 beside it, replaced so that a kill at any instant leaves a whole one.

A file and its digest are two names, and two names can't change in one step. So the digest of what is to come is written
first, under a name of its own (`.model.pt.sha256.next`); then the file takes its place, then the digest. A reader takes
a file that agrees with either of the two.
"""

import hashlib
import io
import logging
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch

from scripts.core.errors import UserError
from scripts.core.files import atomic_write, explain_full_disk, replace_file, sync_folder, unused_name

logger = logging.getLogger(__name__)


def digest_file(file: Path) -> Path:
    """`model.pt.sha256`, in the format of sha256sum, so that `sha256sum -c` reads it."""
    return file.with_name(f"{file.name}.sha256")


def pending_file(file: Path) -> Path:
    return file.with_name(f".{file.name}.sha256.next")


def write_checkpoint(content: dict, file: Path, previous: Path | None = None) -> None:
    """Writes a checkpoint and its digest.

    Args:
        content: what `torch.save` takes.
        file: its place.
        previous: the name under which the file that is there now is kept.
    """
    buffer = io.BytesIO()  # torch turns an error of the disk into one of its own, and the size must be known for ours
    torch.save(content, buffer)
    data = buffer.getbuffer()
    with explain_full_disk(file, len(data)):
        with atomic_write(file, len(data)) as partial:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())  # whole does so too, but the names below must not move before
            announce(file, hashlib.sha256(data).hexdigest())
            if previous is not None and file.is_file():
                rename(file, previous)
        replace_file(pending_file(file), digest_file(file))


def announce(file: Path, digest: str) -> None:
    """Lets readers take a file of this digest from now on, beside the one that is there."""
    with atomic_write(pending_file(file)) as partial:
        partial.write_text(f"{digest}  {file.name}\n", encoding="utf-8")


def rename(file: Path, target: Path) -> None:
    """Moves a checkpoint with its digest; the digest of `file` stays, for whatever takes that name next."""
    known = recorded(digest_file(file))
    if known is None:
        digest_file(target).unlink(missing_ok=True)  # else the old digest would speak against the new file
        replace_file(file, target)
    else:
        announce(target, known)
        replace_file(file, target)
        replace_file(pending_file(target), digest_file(target))


def rename_previous(file: Path) -> None:
    """`scripts.core.files.rename_previous` for a checkpoint and its digest."""
    if file.exists():
        clean_up_after_kill(file)
        kept = unused_name(file)
        rename(file, kept)
        logger.info(f"{file} of an earlier run is kept as {kept.name}")
    digest_file(file).unlink(missing_ok=True)


def clean_up_after_kill(file: Path) -> None:
    """Clears up what a killed run left beside a checkpoint. Only for a run that holds the folder's lock."""
    pending = pending_file(file)
    for name in (file.name, digest_file(file).name, pending.name):
        for rest in file.parent.glob(f".{name}.*.partial"):
            rest.unlink(missing_ok=True)
    if pending.exists():
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == recorded(pending):
            replace_file(pending, digest_file(file))
        else:
            pending.unlink()
            sync_folder(file.parent)


def recorded(file: Path) -> str | None:
    """The digest that a `.sha256` file holds; an empty text where it holds none, None where there is no such file."""
    try:
        found = re.match(r"[0-9a-f]{64}(?=\s|$)", file.read_text(encoding="ascii", errors="replace").strip().lower())
    except FileNotFoundError:
        return None
    return found[0] if found else ""


def digests(file: Path) -> set[str]:
    """What a reader takes: in this order, because a writer moves the pending digest to the other name."""
    found = (recorded(name(file)) for name in (pending_file, digest_file))
    return {digest for digest in found if digest is not None}


def read_checkpoint(file: Path) -> dict:
    """Reads a checkpoint by `weights_only`, which runs no code, after its digest has been compared.

    Raises:
        UserError: the file is something else, not whole, not what its digest says, or holds no weights.
    """
    file = Path(file)
    expected = digests(file)
    data = file.read_bytes()
    expected |= digests(file)  # a training run may have replaced the file in between
    refuse_other_kinds(file, data)
    found = hashlib.sha256(data).hexdigest()
    if expected and found not in expected:
        said = f"says {min(expected)[:16]}..." if any(expected) else "holds no sha256"
        raise UserError(
            f"{file}: its sha256 is {found[:16]}..., {digest_file(file).name} {said}; one of them changed since they "
            "were written: fetch or train it again, or delete the .sha256 to take the file on trust"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on a hostile file is not the user's to follow
            saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not, or not wholly, a checkpoint
        kind = type(error).__name__
        why = (
            "holds more than plain weights, no code in it was run"
            if isinstance(error, pickle.UnpicklingError)
            else kind
        )
        raise UserError(f"{file}: not a readable checkpoint ({why}); fetch or train it again") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("model"), dict):
        raise UserError(
            f"{file}: holds no weights under the key 'model'; expected a checkpoint that this bundle's training wrote"
        )
    more = saved.get("more", [])
    if not isinstance(more, list) or not all(isinstance(weights, dict) for weights in more):
        raise UserError(
            f"{file}: its key 'more' is no list of weights; expected what scripts/inference/ensemble.py joins"
        )
    return saved


def refuse_other_kinds(file: Path, data: bytes) -> None:
    """Names what often lies where a checkpoint should."""
    start = data[:1000].lstrip().lower()
    if not data:
        found = "an empty file; fetch or train it again"
    elif start.startswith(b"version https://git-lfs"):
        found = "a Git LFS pointer, not the file it stands for; fetch that with `git lfs pull`"
    elif start.startswith((b"<!doctype html", b"<html")):
        found = "an HTML page, not a checkpoint; the download went to a login or error page, fetch it again"
    elif data.startswith(b"PK\3\4") and not has_an_end(data):
        found = f"a truncated checkpoint, its end is missing after {len(data):,} bytes; fetch or train it again"
    else:
        return
    raise UserError(f"{file}: {found}")


def has_an_end(data: bytes) -> bool:
    """Whether a zip file has the directory that stands at its end, be it a damaged one."""
    try:
        return zipfile.is_zipfile(io.BytesIO(data))
    except zipfile.BadZipFile:
        return True


def newest_readable(files: list[Path], keys: list[str]) -> tuple[Path, dict]:
    """The first of the files that can be read and holds all `keys`; says what is wrong with those before it."""
    wrong = []
    for file in files:
        try:
            saved = read_checkpoint(file)
            missing = [key for key in keys if key not in saved]
            if missing:
                raise UserError(f"{file}: no state to resume from, it lacks {', '.join(missing)}")
        except UserError as error:
            wrong.append(str(error))
            continue
        for message in wrong:
            logger.warning(f"{message}. Going on from {file.name}")
        return file, saved
    raise UserError(f"{' | '.join(wrong)} | no whole state to resume from; leave out --resume to start anew")
