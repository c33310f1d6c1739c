"""Reads a series as a volume, or its headers as a stack."""

from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.series.files import DicomFile, first_line
from scripts.series.headers import open_dataset
from scripts.series.index import find_series
from scripts.series.pixels import read_frames
from scripts.series.sorting import Series
from scripts.series.stack import Stack


def read_series(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a series.

    Args:
        path: see `scripts.series.index.find_series`.

    Returns:
        The volume, indexed [column, row counted from the last, slice], and its affine to NIfTI's millimetres.

    Raises:
        UserError: its slices are no stack, or a file can't be decoded.
    """
    series = find_series(path)
    stack = stack_of(series, [], str(path))
    return np.ascontiguousarray(stack.to_volume(read_frames(series.frames, str(path)))), stack.nifti_affine


def read_grid(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """The shape and the affine that `read_series` gives, without reading the pixels."""
    stack = stack_of(find_series(path), [], str(path))
    return stack.shape, stack.nifti_affine


def read_stack(path: str | Path) -> Stack:
    """Reads the headers of a series, as for `read_series`."""
    series = find_series(path)
    return stack_of(series, [read_all_but_pixels(file) for file in series.files], str(path))


def stack_of(series: Series, headers: list, name: str) -> Stack:
    places = {file: index for index, file in enumerate(series.files)}
    frames = [(places[frame.file], frame.number) for frame in series.frames]
    return Stack(headers, frames, series.affine, *series.frames[0].size, name)


def read_all_but_pixels(file: DicomFile):
    """The header of a file."""
    try:
        with file.open() as stream:
            return open_dataset(stream, stop_before_pixels=True)
    except Exception as error:  # pydicom raises many kinds for a damaged file
        raise UserError(f"{file}: not readable ({first_line(error)}); export it again") from error


def series_files(path: str | Path) -> list[DicomFile]:
    """The files of a series in the order of its slices."""
    return find_series(path).files
