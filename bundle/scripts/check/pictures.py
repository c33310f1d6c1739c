"""The facts on a stack of slices, as `scripts.check.nifti` has them of a volume."""

from pathlib import Path

import numpy as np

from scripts.check import nifti
from scripts.check.nifti_header import axes
from scripts.check.voxel_statistics import VoxelStatistics
from scripts.core.errors import UserError
from scripts.data import slices


def inspect(path: str | Path, kept: dict | None = None) -> dict:
    """All that can be said of one image, a volume or a stack of slices, without knowing its role.

    Args:
        path: of a file, or of slices with * for their number.
        kept: takes a volume that was read (see `scripts.check.nifti.inspect`); slices are read again, they are small.

    Returns:
        What `scripts.check.nifti.inspect` returns, and for slices `channels`.

    Raises:
        UserError: anything that would stop a training or mislead it.
    """
    if not slices.is_sliced(path):
        return nifti.inspect(path, kept)
    values, affine = slices.read(path)
    shape = list(values.shape)
    tally = VoxelStatistics(shape)
    try:
        tally.add(np.ascontiguousarray(values).ravel())
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    facts = {"shape": shape[:3], "dtype": str(values.dtype), "channels": shape[3] if len(shape) > 3 else 1}
    return facts | axes(affine, shape[:3]) | {"warnings": []} | tally.facts()


def stamp(path: str | Path) -> list:
    """Changes whenever a file of the image does, and when one comes or goes."""
    return [nifti.stamp(file) for file in slices.members(path)] if "*" in Path(path).name else nifti.stamp(path)
