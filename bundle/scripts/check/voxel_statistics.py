"""Streaming statistics of voxel values: the values are added block by block. The data check uses them."""

import hashlib
from collections.abc import Sequence

import numpy as np

from scripts.check.sketch import MOST_CLASSES, Sketch

LARGEST_VALUE = 1e15  # the sum of the squares of larger values overflows single precision
COUNTED = 2**16  # whole numbers below this are counted
MOST_LABEL_VALUES = 64  # a file with more different values is not a label map, and only their number is kept
OFF = 1e-3  # largest distance of a label from a whole number, as in `label_maps.labels_fault`


class VoxelStatistics:
    """Smallest and largest value, whether all are whole numbers, the count of each value, a sketch, and a digest.

    Args:
        shape: of the image, whose values come in Fortran order; it is part of the digest.
    """

    def __init__(self, shape: Sequence[int]):
        self.digest = hashlib.blake2b(repr(list(shape)).encode(), digest_size=16)
        self.least, self.most = np.inf, -np.inf
        self.off: float | None = None
        self.counts: np.ndarray | None = np.zeros(0, np.int64)
        self.sketch = Sketch(shape)

    def add(self, block: np.ndarray) -> None:
        """Adds the next values, a one-dimensional array.

        Raises:
            ValueError: values that are not finite, or too large for an image.
        """
        low, high = float(block.min()), float(block.max())  # NaN if any value is
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("found values that are not finite (NaN or infinite); write it again without them")
        if max(-low, high) > LARGEST_VALUE:
            raise ValueError(
                f"found values from {low:.4g} to {high:.4g}, expected {LARGEST_VALUE:g} at most; rescale it"
            )
        self.least, self.most = min(self.least, low), max(self.most, high)
        single = block.astype("<f4")
        single += 0  # -0 becomes 0
        self.digest.update(single.data)
        if self.off is None and block.dtype.kind == "f":
            rounded = np.rint(block)
            away = np.abs(block - rounded) > OFF
            self.off = float(block[away][0]) if away.any() else None
            block = rounded
        self.sketch.add(block, self.off is None and self.least > -0.5 and self.most < MOST_CLASSES - 0.5)
        if self.counts is None or self.off is not None or self.least < -0.5 or self.most >= COUNTED - 0.5:
            self.counts = None
            return
        now = np.bincount(block.astype(np.intp), minlength=len(self.counts))
        now[: len(self.counts)] += self.counts
        self.counts = now

    def facts(self) -> dict:
        """Returns the facts on the values, as part of those of `scripts.check.nifti.inspect_volume`."""
        counts = self.counts
        present = None if counts is None else np.flatnonzero(counts)
        listed = None
        if counts is not None and present is not None and len(present) <= MOST_LABEL_VALUES:
            listed = {str(value): int(counts[value]) for value in present}
        return {
            "least": self.least,
            "most": self.most,
            "off": self.off,
            "different": None if present is None else len(present),
            "counts": listed,
            "digest": self.digest.hexdigest(),
            **self.sketch.facts(),
        }
