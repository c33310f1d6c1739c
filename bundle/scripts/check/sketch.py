"""A small picture of a volume, made while its voxels are read: means on a coarse grid, and where each class lies.

`voxel_statistics.py` makes it; `nature.py` and the room `plan` look at it. An image is never read again for them.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence

import nibabel as nib
import numpy as np

SIDE = 12  # cells along each axis for the values of an image
CLASS_SIDE = 24  # likewise for the classes of a label map
MOST_CLASSES = 64  # a file with larger whole numbers is no label map
LOOKED_AT = 2**20  # about so many voxels of a large image are used; all those of a label map are


class Sketch:
    """Adds up voxels that arrive in Fortran order, block by block.

    Args:
        shape: of the volume; a fourth axis, of channels, is averaged.
    """

    def __init__(self, shape: Sequence[int]):
        self.seen = 0
        self.step = max(1, int(np.prod(shape)) // LOOKED_AT) | 1  # odd, so that it does not follow rows of even length
        self.values, self.labels = Cells(shape, SIDE), Cells(shape, CLASS_SIDE)
        self.sums, self.counted = np.zeros(self.values.count), np.zeros(self.values.count)
        self.classes: np.ndarray | None = np.zeros((self.labels.count, MOST_CLASSES), np.int64)

    def add(self, block: np.ndarray, label_like: bool) -> None:
        """Adds the next values.

        Args:
            block: a one-dimensional array.
            label_like: whether all values so far are whole numbers that a class may have.
        """
        start, end = self.seen, self.seen + len(block)
        first = -start % self.step
        cells = self.values.of(np.arange(start + first, end, self.step))
        self.sums += np.bincount(cells, block[first :: self.step].astype(np.float64), len(self.sums))
        self.counted += np.bincount(cells, minlength=len(self.sums))
        if not label_like:
            self.classes = None
        elif self.classes is not None:
            inside = np.flatnonzero(block)  # most of a label map is background
            pairs = self.labels.of(start + inside) * MOST_CLASSES + block[inside].astype(np.intp)
            self.classes += np.bincount(pairs, minlength=self.classes.size).reshape(self.classes.shape)
        self.seen = end

    def facts(self) -> dict:
        """`sketch`, the means; and for a label map `places`, the share of each cell that a class has, by its value."""
        means = self.sums / np.maximum(self.counted, 1)
        low, high = means.min(), means.max()
        found: dict = {"sketch": pack(self.values.full((means - low) * (255 / (high - low) if high > low else 0)))}
        if self.classes is not None:
            present = np.flatnonzero(self.classes.sum(axis=0))
            shares = {value: np.ceil(255 * self.classes[:, value] / self.labels.sizes) for value in present}
            found["places"] = {str(value): pack(self.labels.full(share)) for value, share in shares.items()}
        return found


class Cells:
    """A grid of equal cells over a volume, as many along each axis, or one for each voxel where there are fewer.

    Args:
        shape: of the volume.
        side: number of cells along each axis.
    """

    def __init__(self, shape: Sequence[int], side: int):
        self.side = side
        self.sides = [min(n, side) for n in shape[:3]]
        self.count = int(np.prod(self.sides))
        columns, rows, layers = (cell_of(n, cells) for n, cells in zip(shape[:3], self.sides))
        self.plane = (rows[:, None] * self.sides[0] + columns).ravel()
        self.layers = layers * (self.sides[0] * self.sides[1])
        widths, heights, depths = (np.bincount(of) for of in (columns, rows, layers))
        self.sizes = (depths[:, None, None] * heights[:, None] * widths).ravel() * int(np.prod(shape[3:]))

    def of(self, places: np.ndarray) -> np.ndarray:
        """The cell of each voxel, given by its place in Fortran order."""
        slices, within = np.divmod(places, len(self.plane))
        return self.layers[slices % len(self.layers)] + self.plane[within]

    def full(self, values: np.ndarray) -> np.ndarray:
        """The value of each cell, on a grid of `side` cells along each axis."""
        grid = values.reshape(self.sides, order="F")
        return grid[np.ix_(*(cell_of(self.side, cells) for cells in self.sides))]


def cell_of(count: int, cells: int) -> np.ndarray:
    """The cell of each of `count` voxels along an axis, by its centre: the same from both ends."""
    return (2 * np.arange(count) + 1) * cells // (2 * count)


def pack(grid: np.ndarray) -> str:
    """Numbers from 0 to 255 as a text."""
    return base64.b64encode(zlib.compress(grid.round().astype(np.uint8).tobytes(order="F"), 9)).decode()


def unpack(text: str, side: int, orientation: str) -> np.ndarray:
    """What `pack` has made, as numbers on a grid with the axes right, front and up."""
    grid = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape((side,) * 3, order="F")
    return nib.apply_orientation(grid, nib.orientations.axcodes2ornt(tuple(orientation))).astype(float)


def means(facts: Mapping) -> np.ndarray:
    """The sketch of an image."""
    return unpack(facts["sketch"], SIDE, facts["orientation"])


def places(facts: Mapping) -> dict[int, np.ndarray]:
    """Where each class of a label map lies: its share of every cell, from 0 to 255, by its value."""
    found = facts.get("places") or {}
    return {int(value): unpack(text, CLASS_SIDE, facts["orientation"]) for value, text in found.items()}
