"""The facts on a stack of slices, as `scripts.check.nifti` has them of a volume."""

from pathlib import Path

import numpy as np

from scripts.check import nifti
from scripts.check.nifti_header import orientation_facts
from scripts.check.voxel_statistics import VoxelStatistics
from scripts.core.errors import UserError
from scripts.data import slices


def inspect_image(path: str | Path, kept: dict | None = None) -> dict:
    """All that can be said of one image, a volume or a stack of slices, without knowing its role.

    Args:
        path: of a file, or of slices with * for their number.
        kept: takes a volume that was read (see `scripts.check.nifti.inspect_volume`); slices are read again, they are small.

    Returns:
        What `scripts.check.nifti.inspect_volume` returns, and for slices `channels`.

    Raises:
        UserError: anything that would stop a training or mislead it.
    """
    if not slices.is_sliced(path):
        return nifti.inspect_volume(path, kept)
    values, affine = slices.read_slices(path)
    shape = list(values.shape)
    tally = VoxelStatistics(shape)
    try:
        tally.add(np.ascontiguousarray(values).ravel())
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    facts = {"shape": shape[:3], "dtype": str(values.dtype), "channels": shape[3] if len(shape) > 3 else 1}
    return facts | orientation_facts(affine, shape[:3]) | {"warnings": []} | tally.facts()


def image_stamp(path: str | Path) -> list:
    """Changes whenever a file of the image does, and when one comes or goes."""
    return (
        [nifti.file_stamp(file) for file in slices.scan_files(path)]
        if "*" in Path(path).name
        else nifti.file_stamp(path)
    )
