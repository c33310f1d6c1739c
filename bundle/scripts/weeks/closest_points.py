"""Rigid registration of two surfaces: iterative closest points, from point to plane.

Points without a counterpart, because the scan ends there or a leg lies differently, lose their weight (Tukey's function
of the distance to the plane), so that they don't pull.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.weeks.rigid import STAY, Rigid
from scripts.weeks.surfaces import Surface

COARSE, FINE = 1500, 8000  # points of the moving surface: at first, to choose a start, and at the end
STEPS = 60  # at most
# Median distances beyond which a point has no weight: the usual choice for a normal distribution.
TUKEY = 4.685 * 1.4826
LEAST_MEDIAN_MM = 0.1
GATE = 4  # median distances to the closest point beyond which it counts as no counterpart


@dataclass(frozen=True)
class Match:
    """Two surfaces, one of them moved.

    Attributes:
        motion: of the moving surface.
        residual_mm: mean distance of its points from the fixed surface, of those that have a counterpart.
        matched: share of the points that have a counterpart.
    """

    motion: Rigid
    residual_mm: float
    matched: float


def register(moving: Surface, fixed: Surface) -> Match:
    """Moves a surface onto another one. It starts where it lies, and where the middles of both agree."""
    order = np.random.default_rng(0).permutation(len(moving))
    few, many = (moving.part(order[:n]) for n in (COARSE, FINE))
    middles = Rigid(STAY.turn, np.median(fixed.points, 0) - np.median(moving.points, 0))
    starts = [improve(few, fixed, start) for start in (STAY, middles)]
    return improve(many, fixed, min(starts, key=lambda match: match.residual_mm / max(match.matched, 0.01)).motion)


def improve(moving: Surface, fixed: Surface, motion: Rigid) -> Match:
    """Repeats the steps of closest points until the motion no longer changes."""
    for _ in range(STEPS):
        points = motion(moving.points)
        distance, number = fixed.tree.query(points)
        normals = fixed.normals[number]
        along = np.einsum("ij,ij->i", fixed.points[number] - points, normals)
        weight = weights(distance, along, np.einsum("ij,ij->i", moving.normals @ motion.turn.T, normals))
        total = weight.sum()
        if not total:
            break
        centre = weight @ points / total
        rows = np.hstack([np.cross(points - centre, normals), normals])
        step = np.linalg.lstsq(rows * np.sqrt(weight)[:, None], along * np.sqrt(weight), rcond=None)[0]
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        motion = Rigid(turn, step[3:] + centre - turn @ centre).after(motion)
        if 100 * np.linalg.norm(step[:3]) + np.linalg.norm(step[3:]) < 1e-3:  # millimetres, 100 mm from the centre
            break
    kept = weight > 0
    residual = float(np.abs(along[kept]).mean()) if kept.any() else np.inf
    return Match(motion, residual, float(kept.mean()))


def weights(distance: np.ndarray, along: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """The weight of every point.

    Args:
        distance: to the closest point of the other surface.
        along: to the plane of the surface there.
        alike: cosine of the angle between the two normals.
    """
    width = TUKEY * max(float(np.median(np.abs(along))), LEAST_MEDIAN_MM)
    near = distance <= GATE * np.median(distance)
    return np.clip(1 - (along / width) ** 2, 0, None) ** 2 * np.clip(alike, 0, None) * near
