"""One NIfTI file read with distrust: its header first, then every byte, a block at a time.

Whatever a file holds or claims, reading it takes some MiB and ends: what its header promises bounds what is read.
"""

import gzip
import io
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from scripts.check.gzip_reader import GzipReader
from scripts.check.nifti_header import (
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
from scripts.check.voxel_statistics import VoxelStatistics
from scripts.core.errors import UserError

RULES = 1  # raised with every change to this file and to the header's rules that may turn a remembered verdict over
SLACK = 1024  # bytes after the last voxel: some tools pad
LARGEST_KEPT = 2**28  # bytes
BLOCK = 2**18  # voxels read at once


def stamp(path: str | Path) -> list[int]:
    """Changes whenever the file does: size, time of change, and the time that nobody can set back."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def inspect(path: str | Path, kept: dict | None = None) -> dict:
    """All that can be said of one file without knowing its role.

    Several gzip members in a row are one file, as the format has it; padding with zeros may follow them.

    Args:
        path: of the file.
        kept: takes the sound file as a nibabel image, by its path, unless it is very large.

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
        return read(path, name.endswith(".gz"), regular_size(path), kept)
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


class Copying:
    """A stream that keeps a copy of what is read from it."""

    def __init__(self, stream: BinaryIO, copy: BinaryIO):
        self.stream, self.copy = stream, copy

    def read(self, count: int) -> bytes:
        piece = self.stream.read(count)
        self.copy.write(piece)
        return piece


def read(path: Path, compressed: bool, size: int, kept: dict | None) -> dict:
    """Header, voxels and what comes after them."""
    with path.open("rb") as file:
        header = read_header(file.read(START), compressed)
    facts = grid(header)
    offset = header.get_data_offset()
    promised = offset + voxels(facts["shape"]) * header.get_data_dtype().itemsize
    # Incompressible voxels grow by less than a hundredth; a file beyond that would be unpacked for nothing.
    if size > 1.01 * promised + START if compressed else not 0 <= size - promised <= SLACK:
        refuse(f"found {size} bytes, expected {promised} by its header; copy or write it again")
    stream: Any
    with path.open("rb") as file:
        stream = GzipReader(file) if compressed else file
        if kept is not None and promised <= LARGEST_KEPT:
            stream = Copying(stream, io.BytesIO())
        extensions(stream.read(offset), header)
        facts |= values(stream, header, facts["shape"])
        extra = len(stream.read(SLACK + 1))  # to the end, where gzip keeps its checksum
    if extra > SLACK:
        refuse(f"holds more than the {promised} bytes that its header tells of; write it again")
    if extra:
        facts["warnings"].append(f"{extra} bytes follow the last voxel")
    if kept is not None and isinstance(stream, Copying):
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        stream.copy.seek(0)
        kept[str(path)] = kind.from_stream(stream.copy)
    return facts


def values(stream: BinaryIO, header: nib.Nifti1Header, shape: list[int]) -> dict:
    """Reads the voxels once, block by block."""
    dtype, (slope, inter) = header.get_data_dtype(), header.get_slope_inter()
    scaled = slope is not None and (slope, inter) != (1, 0)
    tally = VoxelStatistics(shape)
    left = voxels(shape)
    while left:
        raw = stream.read(min(left, BLOCK) * dtype.itemsize)
        if len(raw) < min(left, BLOCK) * dtype.itemsize:
            refuse("ends before its last voxel; copy or write it again")
        left -= min(left, BLOCK)
        block = np.frombuffer(raw, dtype)
        if scaled:
            with np.errstate(all="ignore"):  # what overflows is found by the tally
                block = block.astype(np.float64) * slope + inter
        tally.add(block)
    return tally.facts()
