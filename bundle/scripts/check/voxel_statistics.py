"""What can be said of an image's values as they come, a block at a time."""

import hashlib
from collections.abc import Sequence

import numpy as np

LARGEST_VALUE = 1e15  # the squares of larger ones, summed, overflow single precision
COUNTED = 2**16  # whole values below this are counted
KEPT = 64  # with more different values than this a file is no label map, and only their number is kept
OFF = 1e-3  # how far from a whole number a label may lie, as in `label_maps.round_labels`


class VoxelStatistics:
    """Extremes, whether all is whole, how often each value is found, and a digest.

    Args:
        shape: of the image; part of the digest.
    """

    def __init__(self, shape: Sequence[int]):
        self.digest = hashlib.blake2b(repr(list(shape)).encode(), digest_size=16)
        self.least, self.most = np.inf, -np.inf
        self.off: float | None = None
        self.counts: np.ndarray | None = np.zeros(0, np.int64)

    def add(self, block: np.ndarray) -> None:
        """Takes the next values, in one axis.

        Raises:
            ValueError: values that no image has.
        """
        low, high = float(block.min()), float(block.max())  # NaN, if there is one
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
        if self.counts is None or self.off is not None or self.least < 0 or self.most >= COUNTED:
            self.counts = None
            return
        now = np.bincount(block.astype(np.intp), minlength=len(self.counts))
        now[: len(self.counts)] += self.counts
        self.counts = now

    def facts(self) -> dict:
        """The values' part of what `scripts.check.nifti.inspect` returns."""
        counts = self.counts
        present = None if counts is None else np.flatnonzero(counts)
        return {
            "least": self.least,
            "most": self.most,
            "off": self.off,
            "different": None if present is None else len(present),
            "counts": None
            if counts is None or present is None or len(present) > KEPT
            else {str(value): int(counts[value]) for value in present},
            "digest": self.digest.hexdigest(),
        }
