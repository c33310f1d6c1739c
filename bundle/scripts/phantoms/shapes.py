"""Tools for the anatomy of phantoms: smooth random waves, signed distances in mm, and a canvas that blends tissues.

`pelvis.py`, `heart.py` and `brain.py` use them.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

FIELD_MM = (430.08, 430.08, 199.68)  # field of view along L, P and S: 256x256x128 voxels of 1.68x1.68x1.56 mm


def axes_mm(size):
    """Returns the voxel centres along L, P and S in mm from the centre of the field."""
    return [(np.arange(n) + 0.5) * extent / n - extent / 2 for n, extent in zip(size, FIELD_MM, strict=True)]


def voxel_mm(size):
    """Returns the voxel size in mm: the field of view is the same at any grid size."""
    return np.array(FIELD_MM) / np.array(size)


@dataclass(frozen=True)
class Waves:
    """A smooth random function of position with mean 0 and standard deviation 1: a sum of plane waves.

    Args:
        vectors: wave vectors in radians per mm, (count, 3).
        phases: radians, (count,).
    """

    vectors: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, rng, shortest, longest, count):
        """Draws `count` waves of random direction, with wavelengths in [shortest, longest] mm."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        wavelengths = rng.uniform(shortest, longest, (count, 1))
        return cls(directions * 2 * np.pi / wavelengths, rng.uniform(0, 2 * np.pi, count))

    def on(self, size, turn=None, shift=(0, 0, 0)):
        """Returns the mean over each voxel of a grid, float32, for a frame turned by `turn` (3, 3) and shifted (mm)."""
        turn = np.eye(3) if turn is None else turn
        vectors = self.vectors @ turn
        phases = self.phases - vectors @ np.asarray(shift)
        factors = []
        for axis, (positions, voxel) in enumerate(zip(axes_mm(size), voxel_mm(size), strict=True)):
            k = vectors[:, axis]
            # A voxel averages a wave over its width, which multiplies it by a sinc: no aliasing on coarse grids.
            wave = np.exp(1j * np.outer(positions, k)) * np.sinc(k * voxel / (2 * np.pi))
            factors.append(wave.astype(np.complex64))
        factors[0] = factors[0] * np.exp(1j * phases).astype(np.complex64) * np.float32(np.sqrt(2 / len(phases)))
        planes = (factors[0][:, None] * factors[1][None]).reshape(-1, len(phases))
        return (planes.real @ factors[2].real.T - planes.imag @ factors[2].imag.T).reshape(size)


def dot(vector, p):
    """Scalar product of a constant vector and points p, a sequence of three arrays."""
    return sum(np.float32(v) * c for v, c in zip(vector, p, strict=True))


def ellipsoid(p, centre, radii):
    """Distance to an ellipsoid, exact at the surface; with two coordinates, to an elliptic cylinder."""
    q = [(c - np.float32(m)) / np.asarray(r, np.float32) for c, m, r in zip(p, centre, radii, strict=True)]
    level = np.sqrt(sum(c * c for c in q))
    slope = np.sqrt(sum((c / np.asarray(r, np.float32)) ** 2 for c, r in zip(q, radii, strict=True)))
    return level * (level - 1) / np.maximum(slope, np.float32(1e-6))


def tube(p, path, radii):
    """Distance to a chain of rounded cones along a path of points (mm) with a radius (mm) at each point."""
    path, distance = np.asarray(path, float), np.float32(np.inf)
    for start, end, r0, r1 in zip(path, path[1:], radii, radii[1:], strict=False):
        along = end - start
        t = np.clip((dot(along, p) - np.float32(along @ start)) / np.float32(along @ along), 0, 1)
        offsets = [c - np.float32(s) - np.float32(a) * t for c, s, a in zip(p, start, along, strict=True)]
        length = np.sqrt(sum(o * o for o in offsets))
        distance = np.minimum(distance, length - np.float32(r0) - np.float32(r1 - r0) * t)
    return distance


def plate(p, a, b, c):
    """Distance (never negative) to a flat triangle with corners a, b and c."""
    normal = np.cross(b - a, c - a)
    sides = [np.cross(normal, end - start) for start, end in ((a, b), (b, c), (c, a))]
    inside = [dot(side, p) > side @ start for side, start in zip(sides, (a, b, c), strict=True)]
    flat = np.abs(dot(normal, p) - np.float32(normal @ a)) / np.float32(np.linalg.norm(normal))
    return np.where(inside[0] & inside[1] & inside[2], flat, tube(p, [a, b, c, a], [0, 0, 0, 0]))


def blend(a, b, reach):
    """Union of two distances, with a smooth transition of `reach` mm between them."""
    h = np.maximum(reach - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h / np.float32(4 * reach)


def frame(build, filling):
    """Returns rotation and shift (mm) of a scan: `turn @ (point - shift)` is the point in the pelvic frame."""
    turn = Rotation.from_euler("xyz", build.degrees + filling.degrees, degrees=True).as_matrix()
    return turn, build.shift + filling.shift


class Canvas:
    """A grid on which shapes are painted. A later shape covers earlier ones; nothing is painted outside the skin."""

    def __init__(self, size, build, filling, signals):
        self.signals, self.scale = signals, build.scale
        turn, shift = frame(build, filling)
        turn = turn / build.scale
        x, y, z = np.meshgrid(*axes_mm(size), indexing="ij", sparse=True)
        self.points = [
            (dot(row, (x - shift[0], y - shift[1], z - shift[2])) + 3 * waves.on(size, turn, shift)).astype(np.float32)
            for row, waves in zip(turn, build.warp, strict=True)
        ]
        self.grain, self.septa = build.grain.on(size, turn, shift), build.septa.on(size, turn, shift)
        self.mottle = filling.mottle.on(size, turn, shift)
        self.voxel = np.float32(np.prod(voxel_mm(size)) ** (1 / 3))
        self.margin = 9 + self.voxel
        self.step = [max(1, int(9 / v)) for v in voxel_mm(size)]
        self.skin = np.full(size, -np.inf, np.float32)  # depth below the skin, once there is one
        self.signal, self.label = np.zeros(size, np.float32), np.zeros(size, np.uint8)

    def near(self, points, reach, paired=False):
        """Returns the box of the grid within `reach` mm of `points`, and its coordinates (paired: |x| for x)."""
        low, high = np.min(points, 0) - reach - self.margin, np.max(points, 0) + reach + self.margin
        if paired:
            low[0] = -high[0]
        inside: np.ndarray | np.bool_ = np.True_
        for c, first, last in zip(self.points, low, high, strict=True):
            c = c[
                tuple(slice(None, None, s) for s in self.step)
            ]  # coarse sampling is enough: the margin is larger than the step
            inside = inside & (c > first) & (c < last)
        box = tuple(
            slice(max(0, (hits.min(initial=n) - 1) * s), (hits.max(initial=-1) + 1) * s + 1)
            for hits, n, s in zip(np.nonzero(inside), inside.shape, self.step, strict=True)
        )
        x, y, z = (c[box] for c in self.points)
        return box, (np.abs(x) if paired else x, y, z)

    def paint(self, box, distance, tissue, label=None, texture=0):
        """Paints a tissue where distance < 0, with a border of one voxel, and sets its label if it has one.

        Args:
            box: slices of the grid, from `near`.
            distance: signed distance to the shape, in mm of the pelvic frame.
            tissue: name of the tissue, a key of `signals`.
            label: class of the tissue, or None.
            texture: relative change of the tissue's signal, an array or 0.
        """
        distance = np.maximum(distance, self.skin[box]) * np.float32(self.scale)
        share = np.clip(0.5 - distance / self.voxel, 0, 1)
        below = self.signal[box]
        below += share * (np.float32(self.signals[tissue]) * np.maximum(1 + texture, 0) - below)
        if label is not None:
            self.label[box][distance < 0] = label
