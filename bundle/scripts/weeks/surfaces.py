"""The surface of a structure as points between the voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from scripts.weeks.rigid import Rigid

SIGMA = 1.0  # voxels by which a mask is smoothed, so that its surface lies between the voxels
RIM = 2  # voxels at the border of a scan in which no surface is taken: there the scan ends, not the structure


@dataclass(frozen=True)
class Surface:
    """Points of a surface.

    Attributes:
        points: (n, 3), millimetres.
        normals: (n, 3), of length 1, outwards.
        spacing: of the points, in millimetres: half the diagonal of a voxel.
    """

    points: np.ndarray
    normals: np.ndarray
    spacing: float

    def part(self, numbers: np.ndarray) -> "Surface":
        return Surface(self.points[numbers], self.normals[numbers], self.spacing)

    def moved(self, motion: Rigid) -> "Surface":
        return Surface(motion(self.points), self.normals @ motion.turn.T, self.spacing)

    @cached_property
    def tree(self) -> KDTree:
        return KDTree(self.points)

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Distances of points from the surface, negative inside.

        Every point of the surface stands for a flat disc as wide as the points are apart. So the distance does not
        depend on where between them a point lies.
        """
        _, number = self.tree.query(points)
        away, normals = points - self.points[number], self.normals[number]
        along = np.einsum("ij,ij->i", away, normals)
        aside = np.linalg.norm(away - along[:, None] * normals, axis=1)
        return np.copysign(np.hypot(along, np.clip(aside - self.spacing, 0, None)), along)

    def __len__(self) -> int:
        return len(self.points)


def surface_of(mask: np.ndarray, start: np.ndarray, shape: Sequence[int], affine: np.ndarray) -> Surface:
    """Finds where a smoothed mask crosses 0.5 between two neighbouring voxels.

    Args:
        mask: bool, the part of the scan that holds the structure.
        start: first voxel of this part.
        shape: voxels of the whole scan.
        affine: voxel of the whole scan to millimetres.
    """
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), SIGMA, mode="nearest")
    inside = smooth > 0.5
    places, slopes = [], []
    for axis, step in enumerate(np.eye(3, dtype=int)):
        ahead, behind = ([slice(None)] * 3 for _ in range(2))
        ahead[axis], behind[axis] = slice(1, None), slice(-1)
        here = np.argwhere(inside[tuple(behind)] != inside[tuple(ahead)])
        there = here + step
        low, high = smooth[tuple(here.T)], smooth[tuple(there.T)]
        share = ((0.5 - low) / (high - low))[:, None]
        places.append(here + share * step)
        slopes.append((1 - share) * slope_at(smooth, here) + share * slope_at(smooth, there))
    place, slope = np.concatenate(places) + start, np.concatenate(slopes)
    normals = -slope @ np.linalg.inv(affine[:3, :3])
    length = np.linalg.norm(normals, axis=1)
    kept = (length > 1e-6) & ((place >= RIM) & (place <= np.array(shape) - 1 - RIM)).all(1)
    spacing = float(np.linalg.norm(affine[:3, :3])) / 2
    return Surface(place[kept] @ affine[:3, :3].T + affine[:3, 3], normals[kept] / length[kept, None], spacing)


def slope_at(values: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Central differences at some voxels, one-sided at the border."""
    found = np.empty((len(voxels), 3), np.float32)
    for axis, size in enumerate(values.shape):
        low, high = voxels.copy(), voxels.copy()
        low[:, axis] = np.maximum(voxels[:, axis] - 1, 0)
        high[:, axis] = np.minimum(voxels[:, axis] + 1, size - 1)
        width = np.maximum(high[:, axis] - low[:, axis], 1)
        found[:, axis] = (values[tuple(high.T)] - values[tuple(low.T)]) / width
    return found
