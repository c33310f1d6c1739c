"""Prepared cases on disk: found again by every run that prepares the same files in the same way.

MONAI's PersistentDataset knows a file by its name, so that a changed file is not seen; it moves what it writes from
another disk, so that a kill leaves half a file; and it grows without end. Here

- the name of an entry is made of the content of the files and of all transforms before the first random one;
- an entry is written beside its place and renamed, and one that can't be read is made anew;
- what was used least recently gives way when the folder is full. A run never deletes what it has used itself.

`stamps` remembers the content of files by their path, size and time, so that they are not read again for their names.
"""

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import monai
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, LoadImaged, RandomizableTrait, Transform

from scripts.check.pictures import image_stamp
from scripts.core.describe import settings_text
from scripts.core.errors import UserError
from scripts.core.files import atomic_write
from scripts.data.digests import sha256_of_files
from scripts.training.checkpoint_files import serialised

logger = logging.getLogger(__name__)

ENTRY, STAMPS = ".case", "stamps"
EASED = 0.9  # what is left of a full folder after the oldest entries are deleted
COUNTED_EVERY = 8  # entries written, after which the folder is measured again: other processes write there as well


class DiskCache:
    """A folder of prepared cases that stays below a size.

    Args:
        folder: is made where it is missing; several processes and runs may share it.
        limit: bytes that it may hold.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit
        self.since = time.time()
        self.size: int | None = None
        self.written = 0
        self.gave_up = False

    def get(self, case: Mapping[str, Any], chain: str, prepare: Callable[[], dict]) -> dict:
        """Returns a prepared case, from the folder if it is there.

        Args:
            case: the paths.
            chain: text that differs where the transforms differ.
            prepare: makes the case.
        """
        entry = self.folder / (self.name(case, chain) + ENTRY)
        if (found := read(entry)) is not None:
            return found
        made = pack(prepare())
        self.write(made, entry)
        return unpack(made)

    def name(self, case: Mapping[str, Any], chain: str) -> str:
        """The name of a case's entry: a digest of its files, its other values and the transforms."""
        parts = [chain]
        for key in sorted(case):
            value = case[key]
            parts += [key, self.content(value) if key in ("image", "label") else repr(value)]
        return digest(*parts)

    def content(self, file: str) -> str:
        """The sha256 of an image's files, remembered for files that have not changed."""
        try:
            stamp = self.folder / STAMPS / digest(file, repr(image_stamp(file)))
            if stamp.is_file() and len(known := stamp.read_text()) == 64:
                return known
            found = sha256_of_files(file)
            with atomic_write(stamp) as partial:
                partial.write_text(found)
        except (OSError, UserError):
            return sha256_of_files(file)
        return found

    def write(self, made: dict, entry: Path) -> None:
        """Keeps a case, if there is room for it. A full disk is no error: the case is then prepared anew next time."""
        size = sum(part.numel() * part.element_size() for part in tensors(made))
        if self.gave_up or not self.make_room(size):
            return
        try:
            with atomic_write(entry, size) as partial:
                partial.write_bytes(serialised(made))  # torch itself says of a full disk that a file is damaged
        except (OSError, UserError) as error:
            self.gave_up = True
            logger.warning(f"nothing more is kept in the cache, cases are prepared anew in every epoch: {error}")
            return
        self.written += 1
        self.size = (self.size or 0) + entry.stat().st_size

    def make_room(self, size: int) -> bool:
        """Whether there is room for so many bytes, after older entries of other runs were deleted if need be."""
        if self.size is None or self.written % COUNTED_EVERY == 0:
            self.size = folder_size(self.folder)
        if self.size + size > self.limit:
            self.size = ease(self.folder, EASED * self.limit - size, self.since)
        return self.size + size <= self.limit


class DiskCacheDataset(CacheDataset):
    """Cases whose transforms before the first random one are done once, and then kept on disk.

    Args:
        data: dictionaries with `image` and `label`.
        transform: all transforms.
        cache: where the cases are kept.
    """

    def __init__(self, data: Sequence, transform: Compose, cache: DiskCache):
        super().__init__(data, transform, cache_rate=0.0, progress=False)  # nothing in memory
        self._disk = cache
        self._first = first_random(transform)
        steps = transform.transforms[: self._first]
        self._chain = f"MONAI {monai.__version__}, {source_of(steps)}, {settings_text(steps)}"

    def _transform(self, index: int) -> Any:
        case = self.data[index]
        made = self._disk.get(case, self._chain, lambda: self.transform(dict(case), end=self._first))
        return self.transform(made, start=self._first)


def first_random(chain: Compose) -> int:
    """The number of the first transform that is not the same each time, as MONAI's CacheDataset sees it."""
    found = chain.get_index_of_first(lambda it: isinstance(it, RandomizableTrait) or not isinstance(it, Transform))
    return len(chain.transforms) if found is None else found


def source_of(steps: Sequence) -> str:
    """The sha256 of the files in which the steps of a chain and their readers are written, less MONAI's: changed code
    prepares anew."""
    loaders = [step._loader for step in steps if isinstance(step, LoadImaged)]
    names = sorted({type(part).__module__ for part in (*steps, *(r for loader in loaders for r in loader.readers))})
    files = [getattr(sys.modules[name], "__file__", None) for name in names if not name.startswith("monai.")]
    return digest(*(Path(file).read_text(encoding="utf-8") for file in files if file))


def pack(case: Mapping[str, Any]) -> dict:
    """A prepared case as plain tensors: reading it again can't run any code. Of their metadata the affine is kept."""
    return {
        key: {"tensor": value.as_tensor(), "affine": value.affine} if isinstance(value, MetaTensor) else value
        for key, value in case.items()
    }


def unpack(packed: dict) -> dict:
    return {
        key: MetaTensor(value["tensor"], affine=value["affine"]) if isinstance(value, dict) else value
        for key, value in packed.items()
    }


def tensors(packed: dict) -> list[torch.Tensor]:
    parts = (value["tensor"] if isinstance(value, dict) else value for value in packed.values())
    return [part for part in parts if isinstance(part, torch.Tensor)]


def read(entry: Path) -> dict | None:
    """Returns a case, or None if it is not there or can't be read. Its time is set, to know what is in use."""
    try:
        found = unpack(torch.load(entry, weights_only=True))
    except Exception:  # torch raises many kinds of errors for a damaged file
        return None
    with suppress(OSError):  # the entry of another user can be read, but its time can't be set
        os.utime(entry)
    return found


def folder_size(folder: Path) -> int:
    """Bytes of all entries in a folder."""
    return sum(size for _, size, _ in entries(folder))


def entries(folder: Path) -> list[tuple[float, int, str]]:
    """Time, size and path of every entry, and of what a killed process has left half-written."""
    found = []
    with os.scandir(folder) as listed:
        for one in listed:
            try:
                if one.name.endswith((ENTRY, ".partial")):
                    found.append((one.stat().st_mtime, one.stat().st_size, one.path))
            except OSError:
                continue  # another process has just deleted or renamed it
    return found


def ease(folder: Path, target: float, since: float) -> int:
    """Deletes the entries that were used least recently, but none that was used after `since`, until the rest is not
    larger than `target` bytes. Returns the size of what is left."""
    found = sorted(entries(folder))
    size = sum(each for _, each, _ in found)
    for used, each, path in found:
        if size <= target or used >= since:
            break
        Path(path).unlink(missing_ok=True)
        size -= each
    return size


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
