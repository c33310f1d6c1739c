"""Inspects one NIfTI file without trusting it: first the header, then every byte, block by block.

Whatever a file contains or claims, the inspection needs only some MiB of memory and comes to an end: the header is
checked against fixed limits, and it limits how much is read. `pictures.py` uses this module.
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
    check_extensions,
    check_header,
    first_line,
    read_header,
    refuse,
    voxel_count,
)
from scripts.check.voxel_statistics import VoxelStatistics
from scripts.core.errors import UserError

RULES = 2  # increase it with every change here or in nifti_header.py that may change a remembered result
SLACK = 1024  # bytes that may follow the last voxel: some tools pad the file
LARGEST_KEPT = 2**28  # bytes of a file that is kept for the reader
BLOCK = 2**18  # voxels read at once


def file_stamp(path: str | Path) -> list[int]:
    """Returns numbers that change when the file changes: size, mtime, and ctime, which can't be set back."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def inspect_volume(path: str | Path, kept: dict | None = None) -> dict:
    """Collects the facts on one file, which may be an image or a label map.

    Args:
        path: of the file.
        kept: receives a valid file as a nibabel image, by its path, unless it is very large.

    Returns:
        `shape`, `dtype`, `affine`, `orientation`; `ras_shape` and `spacing` (mm) along R, A and S; `least` and `most`;
        `off`, a value that is not a whole number, or None; `different`, the number of different values if all are
        whole and small, else None; `counts`, the number of voxels of each value if there are few values, else None;
        `digest` of shape and values, independent of their type, scaling and compression; `sketch` and `places`, see
        `scripts.check.sketch`; `warnings`.

    Raises:
        UserError: anything that would stop a training or falsify it.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        if not name.endswith((".nii", ".nii.gz")):
            refuse("expected a name that ends in .nii or .nii.gz; convert it to NIfTI")
        return read_nifti(path, name.endswith(".gz"), regular_size(path), kept)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{printable(path)}: incomplete ({first_line(error)}); copy or write it again") from error
    except OSError as error:
        raise UserError(
            f"{printable(path)}: not readable ({error.strerror or error}); fix the file or remove the case"
        ) from error
    except ValueError as error:
        raise UserError(f"{printable(path)}: {error}") from error


def printable(path: str | Path) -> str:
    """Returns the path on one line; characters that can't be printed are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def regular_size(path: Path) -> int:
    """Returns the size of a regular file. Anything else is refused: reading from a pipe may never end."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        refuse(f"found {kind}, expected a NIfTI file")
    if not found.st_size:
        refuse("found an empty file, expected a NIfTI file; copy or write it again")
    if found.st_size > LARGEST_BYTES + LARGEST_OFFSET:
        refuse(f"found {found.st_size} bytes, expected {LARGEST_BYTES} at most; crop or resample it")
    return found.st_size


class CopyingStream:
    """A stream that writes a copy of everything that is read from it."""

    def __init__(self, stream: BinaryIO, copy: BinaryIO):
        self.stream, self.copy = stream, copy

    def read(self, count: int) -> bytes:
        piece = self.stream.read(count)
        self.copy.write(piece)
        return piece


def read_nifti(path: Path, compressed: bool, size: int, kept: dict | None) -> dict:
    """Reads header and voxels, and checks that nothing else follows them."""
    with path.open("rb") as file:
        header = read_header(file.read(START), compressed)
    facts = check_header(header)
    offset = header.get_data_offset()
    promised = offset + voxel_count(facts["shape"]) * header.get_data_dtype().itemsize
    # Compression makes a file at most 1 % larger. A file larger than that is refused before it is unpacked.
    if size > 1.01 * promised + START if compressed else not 0 <= size - promised <= SLACK:
        refuse(f"found {size} bytes, expected {promised} by its header; copy or write it again")
    stream: Any
    with path.open("rb") as file:
        stream = GzipReader(file) if compressed else file
        if kept is not None and promised <= LARGEST_KEPT:
            stream = CopyingStream(stream, io.BytesIO())
        check_extensions(stream.read(offset), header)
        facts |= read_voxels(stream, header, facts["shape"])
        extra = len(stream.read(SLACK + 1))  # to the end, where gzip keeps its checksum
    if extra > SLACK:
        refuse(f"contains more than the {promised} bytes that its header announces; write it again")
    if extra:
        facts["warnings"].append(f"{extra} bytes follow the last voxel")
    if kept is not None and isinstance(stream, CopyingStream):
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        stream.copy.seek(0)
        kept[str(path)] = kind.from_stream(stream.copy)
    return facts


def read_voxels(stream: BinaryIO, header: nib.Nifti1Header, shape: list[int]) -> dict:
    """Reads the voxels once, block by block, and returns their statistics."""
    dtype, (slope, inter) = header.get_data_dtype(), header.get_slope_inter()
    scaled = slope is not None and (slope, inter) != (1, 0)
    statistics = VoxelStatistics(shape)
    left = voxel_count(shape)
    while left:
        raw = stream.read(min(left, BLOCK) * dtype.itemsize)
        if len(raw) < min(left, BLOCK) * dtype.itemsize:
            refuse("ends before its last voxel; copy or write it again")
        left -= min(left, BLOCK)
        block = np.frombuffer(raw, dtype)
        if scaled:
            with np.errstate(all="ignore"):  # the statistics find what overflows
                block = block.astype(np.float64) * slope + inter
        statistics.add(block)
    return statistics.facts()
