"""One NIfTI file read with distrust: its header first, then every byte, a block at a time.

Whatever a file holds or claims, reading it takes some MiB and ends: what its header promises bounds what is read.
"""

import gzip
import hashlib
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from scripts.errors import UserError
from scripts.gzip_reader import GzipReader
from scripts.header_check import (
    LARGEST_BYTES,
    LARGEST_OFFSET,
    START,
    extensions,
    grid,
    read_header,
    reason,
    refuse,
    voxels,
)

RULES = 1  # raised with every change to this file and to the header's rules that may turn a remembered verdict over
LARGEST_VALUE = 1e15  # the squares of larger ones, summed, overflow single precision
SLACK = 1024  # bytes after the last voxel: some tools pad
BLOCK = 2**18  # voxels read at once
COUNTED = 2**16  # whole values below this are counted
KEPT = 64  # with more different values than this a file is no label map, and only their number is kept
OFF = 1e-3  # how far from a whole number a label may lie, as in `label_maps.round_labels`


def stamp(path: str | Path) -> list[int]:
    """Changes whenever the file does: size, time of change, and the time that nobody can set back."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def inspect(path: str | Path) -> dict:
    """All that can be said of one file without knowing its role.

    Several gzip members in a row are one file, as the format has it; padding with zeros may follow them.

    Returns:
        `shape`, `dtype`, `affine`, `orientation`; `ras_shape` and `spacing` along R, A and S; `least` and `most`;
        `off`, a value that is no whole number, or None; `different`, the number of different values where they are
        whole and small, else None; `counts`, the voxels of each where they are few, else None; `digest` of shape and
        values, whatever their type, scaling and compression; `warnings`.

    Raises:
        UserError: anything that would stop a training or mislead it.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        if not name.endswith((".nii", ".nii.gz")):
            refuse("expected a name that ends in .nii or .nii.gz; convert it to NIfTI")
        return read(path, name.endswith(".gz"), regular_size(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{shown(path)}: not whole ({reason(error)}); copy or write it again") from error
    except OSError as error:
        raise UserError(
            f"{shown(path)}: not readable ({error.strerror or error}); mend the file or take the case away"
        ) from error
    except ValueError as error:
        raise UserError(f"{shown(path)}: {error}") from error


def shown(path: str | Path) -> str:
    """The path on one line, whatever characters it has."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def regular_size(path: Path) -> int:
    """Size of a regular file; a pipe or a device would be read for ever."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        refuse(f"found {kind}, expected a NIfTI file")
    if not found.st_size:
        refuse("found an empty file, expected a NIfTI file; copy or write it again")
    if found.st_size > LARGEST_BYTES + LARGEST_OFFSET:
        refuse(f"found {found.st_size} bytes, expected {LARGEST_BYTES} at most; crop or resample it")
    return found.st_size


def read(path: Path, compressed: bool, size: int) -> dict:
    """Header, voxels and what comes after them."""
    with path.open("rb") as stream:
        header = read_header(stream.read(START), compressed)
    facts = grid(header)
    offset = header.get_data_offset()
    promised = offset + voxels(facts["shape"]) * header.get_data_dtype().itemsize
    # Incompressible voxels grow by less than a hundredth; a file beyond that would be unpacked for nothing.
    if size > 1.01 * promised + START if compressed else not 0 <= size - promised <= SLACK:
        refuse(f"found {size} bytes, expected {promised} by its header; copy or write it again")
    with path.open("rb") as file:
        stream = GzipReader(file) if compressed else file
        extensions(stream.read(offset), header)
        facts |= values(stream, header, facts["shape"])
        extra = len(stream.read(SLACK + 1))  # to the end, where gzip keeps its checksum
    if extra > SLACK:
        refuse(f"holds more than the {promised} bytes that its header tells of; write it again")
    if extra:
        facts["warnings"].append(f"{extra} bytes follow the last voxel")
    return facts


def values(stream: BinaryIO, header: nib.Nifti1Header, shape: list[int]) -> dict:
    """Reads the voxels once, block by block."""
    dtype, (slope, inter) = header.get_data_dtype(), header.get_slope_inter()
    scaled = slope is not None and (slope, inter) != (1, 0)
    digest = hashlib.blake2b(repr(shape).encode(), digest_size=16)
    least, most, off, counts = np.inf, -np.inf, None, np.zeros(0, np.int64)
    left = voxels(shape)
    while left:
        raw = stream.read(min(left, BLOCK) * dtype.itemsize)
        if len(raw) < min(left, BLOCK) * dtype.itemsize:
            refuse("ends before its last voxel; copy or write it again")
        left -= min(left, BLOCK)
        block = np.frombuffer(raw, dtype)
        if scaled:
            with np.errstate(all="ignore"):  # what overflows is found below
                block = block.astype(np.float64) * slope + inter
        low, high = float(block.min()), float(block.max())  # NaN, if there is one
        if not (np.isfinite(low) and np.isfinite(high)):
            refuse("found values that are not finite (NaN or infinite); write it again without them")
        if max(-low, high) > LARGEST_VALUE:
            refuse(f"found values from {low:.4g} to {high:.4g}, expected {LARGEST_VALUE:g} at most; rescale it")
        least, most = min(least, low), max(most, high)
        single = block.astype("<f4")
        single += 0  # -0 becomes 0
        digest.update(single)
        if off is None and block.dtype.kind == "f":
            rounded = np.rint(block)
            away = np.abs(block - rounded) > OFF
            off = float(block[away][0]) if away.any() else None
            block = rounded
        if counts is not None and off is None and least >= 0 and most < COUNTED:
            now = np.bincount(block.astype(np.intp))
            now[: len(counts)] += counts if len(now) >= len(counts) else 0
            counts = now if len(now) >= len(counts) else counts + np.pad(now, (0, len(counts) - len(now)))
        else:
            counts = None
    present = None if counts is None else np.flatnonzero(counts)
    return {
        "least": least,
        "most": most,
        "off": off,
        "different": None if present is None else len(present),
        "counts": {str(v): int(counts[v]) for v in present} if present is not None and len(present) <= KEPT else None,
        "digest": digest.hexdigest(),
    }
