"""The grid that a network sees: what is kept of an image, how fine it becomes, and how many levels the network has."""

import math
from collections.abc import Sequence

import numpy as np

Numbers = Sequence[float] | np.ndarray
MARGIN = 0.08  # of the extent, beyond the outermost place of a class: another patient may lie elsewhere
STEP = 0.05  # the shares are rounded up to multiples of it
WHOLE = 0.85  # a larger share saves too little
DEEP, MEDIUM = 48, 16  # voxels along the shortest axis from which on five and four levels are of use
THICK, NEARLY_ALL = 2, 0.9  # slices, relative to the pixels; the share of the images
SMALL = 64**3  # voxels; images that are not larger are not resized


def kept_share(box: np.ndarray | None) -> list[float]:
    """The share of the extent along each axis, around its middle, that has every class with a margin.

    Args:
        box: first and last place of any class, as shares of the extent.
    """
    if box is None:
        return [1.0] * 3
    reach = np.maximum(0.5 - box[0], box[1] - 0.5) + MARGIN
    shares = [round(math.ceil(round(2 * side / STEP, 6)) * STEP, 2) for side in reach]
    return [share if share <= WHOLE else 1.0 for share in shares]


def levels_of(sizes: Numbers) -> int:
    """Resolutions of the network: as many as leave the shortest axis some voxels."""
    shortest = min(sizes)
    return 5 if shortest >= DEEP else 4 if shortest >= MEDIUM else 3


def many_slices(shape: Numbers, spacing: Numbers, shapes: np.ndarray) -> np.ndarray:
    """A shape with as many slices as nearly all images have, where slices are thick: else those of an image with thin
    ones are merged, and a structure's ends are lost with them.

    Args:
        shape: voxels along each axis of the median image.
        spacing: their sides.
        shapes: of all images.
    """
    voxels, sides = np.array(shape, float), np.array(spacing, float)
    thick = sides > THICK * sides.min()
    return np.where(thick, np.maximum(voxels, np.quantile(shapes, NEARLY_ALL, axis=0)), voxels)


def fitting_sizes(shape: Numbers, spacing: Numbers, most: float) -> list[int]:
    """The finest grid with about `most` voxels: the shortest sides of the voxels are made longer first.

    Args:
        shape: voxels of the image along each axis.
        spacing: their sides.
        most: the number of voxels.

    Returns:
        Voxels along each axis, multiples of what the levels of the network need.
    """
    voxels, sides = np.array(shape, float), np.array(spacing, float)
    low, high = sides.min(), float((voxels * sides).max())
    if np.prod(voxels) <= most:
        high = low
    for _ in range(50):  # the side is found by halving
        side = (low + high) / 2
        low, high = (side, high) if np.prod(coarser(voxels, sides, side)) > most else (low, side)
    return rounded(coarser(voxels, sides, high))


def coarser(voxels: np.ndarray, sides: np.ndarray, side: float) -> np.ndarray:
    """Voxels along each axis if none has a side below `side`."""
    return np.maximum(1, voxels * np.minimum(1, sides / side))


def rounded(sizes: Numbers, up: bool = False) -> list[int]:
    """Multiples of the number that the levels of the network ask for, at least two of it."""
    multiple = 2 ** (levels_of(sizes) - 1)
    made = [max(2, math.ceil(n / multiple - 1e-9) if up else round(n / multiple)) * multiple for n in sizes]
    return made if levels_of(made) == levels_of(sizes) else rounded(made, up)  # now there is room for one more


def voxel_sides(extent: Numbers, sizes: Sequence[int]) -> np.ndarray:
    """Sides of the voxels of a grid of `sizes` over an extent in mm."""
    return np.array(extent) / np.array(sizes)


def rotation_shares(sides: Numbers) -> list[float]:
    """The share of the largest rotation that is good around each axis.

    Rotations are done on the grid, whose voxels may be long: a rotation in a plane of unequal sides is a shear, so it
    is made smaller by their ratio.

    Args:
        sides: of the voxels.
    """
    planes = [(1, 2), (0, 2), (0, 1)]
    return [round(float(min(sides[a], sides[b]) / max(sides[a], sides[b])), 1) for a, b in planes]
