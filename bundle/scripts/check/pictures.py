"""Inspects an image: a volume, a stack of slices or a series. `cache.py` calls it for every file of a data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.check import nifti
from scripts.check.nifti_header import check_header, orientation_facts
from scripts.check.voxel_statistics import VoxelStatistics
from scripts.core.errors import UserError
from scripts.data import slices
from scripts.data.slices import FolderNames
from scripts.series.index import find_series, is_series
from scripts.series.reader import read_series, series_files


def inspect_image(path: str | Path, kept: dict | None = None, listed: FolderNames | None = None) -> dict:
    """Collects the facts on an image or a label map: the caller knows which it is.

    Args:
        path: of a file, of slices with * for their number, or of a series.
        kept: receives a volume that was read (see `scripts.check.nifti.inspect_volume`). Slices are small and are
            read again.
        listed: for many stacks of one folder, so that the folder is listed once.

    Returns:
        What `scripts.check.nifti.inspect_volume` returns, and for slices `channels`.

    Raises:
        UserError: anything that would stop a training or falsify it.
    """
    if is_series(path):
        return inspect_series(path, kept)
    if not slices.is_sliced(path):
        return nifti.inspect_volume(path, kept)
    values, affine = slices.read_slices(path, listed)
    shape = list(values.shape)
    with named(path):
        found = statistics_of(values, shape)
    facts = {"shape": shape[:3], "dtype": str(values.dtype), "channels": shape[3] if len(shape) > 3 else 1}
    return facts | orientation_facts(affine, shape[:3]) | {"warnings": []} | found


def inspect_series(path: str | Path, kept: dict | None = None) -> dict:
    """Collects the facts on a series, by the rules for a NIfTI file. What was left out of it is a warning."""
    image = nib.Nifti1Image(*read_series(path))
    header = image.header.copy()
    header["vox_offset"] = header.single_vox_offset  # as in a file
    with named(path):
        facts = check_header(header)
        found = statistics_of(np.asanyarray(image.dataobj), facts["shape"])
    if kept is not None:
        kept[str(path)] = image
    facts["warnings"] += find_series(path).notes
    return facts | found


def statistics_of(values: np.ndarray, shape: list[int]) -> dict:
    """The facts on the values of an image that is read already."""
    statistics = VoxelStatistics(shape)
    statistics.add(values.ravel(order="F"))
    return statistics.facts()


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Puts the path before what is wrong with the image, as `scripts.check.nifti` does."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{nifti.printable(path)}: {error}") from error


def image_stamp(path: str | Path, listed: FolderNames | None = None) -> list:
    """Returns numbers that change when a file of the image changes, and when one is added or removed."""
    if is_series(path):
        return [[file.member, *nifti.file_stamp(file.path)] for file in series_files(path)]
    if "*" not in Path(path).name:
        return nifti.file_stamp(path)
    return [nifti.file_stamp(file) for file in slices.scan_files(path, listed)]
