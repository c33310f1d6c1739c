"""Where the slices of a stack are, from their headers alone: in order, at equal distances, one straight behind another.

Whatever is not such a stack is refused with the reason, never guessed. `index.py` uses this module.
"""

from collections.abc import Sequence

import numpy as np

TOLERANCE_MM = 0.05  # a slice may be this far from where equal steps put it: headers are rounded
SAME_DIRECTION = 1e-3  # greatest difference between the directions of two slices of one stack
SAME_PLACE_MM = 0.01


class NotAStackError(Exception):
    """The reason why slices are not a stack, without the name of a file."""


def normal_of(orientation: Sequence[float]) -> np.ndarray:
    """The direction across a slice: the direction along its rows x the one along its columns.

    Raises:
        NotAStackError: these two are no directions at a right angle.
    """
    rows, columns = np.array(orientation, float).reshape(2, 3)
    lengths = np.linalg.norm([rows, columns], axis=1)
    if not np.allclose(lengths, 1, atol=SAME_DIRECTION) or abs(rows @ columns) > SAME_DIRECTION:
        raise NotAStackError(
            f"ImageOrientationPatient is {text(orientation)}, expected two directions of length 1 at a right angle"
        )
    across = np.cross(rows, columns)
    return across / np.linalg.norm(across)


def in_order(positions: np.ndarray, orientation: Sequence[float]) -> np.ndarray:
    """The indices of slices in their order along the normal."""
    return np.argsort(np.asarray(positions) @ normal_of(orientation), kind="stable")


def stack_affine(positions: np.ndarray, orientation: Sequence[float], spacing: Sequence[float]) -> np.ndarray:
    """The matrix from (column, row, slice) to the pixel's centre in DICOM's millimetres (to the left, back and head).

    Args:
        positions: centre of the first pixel of every slice, in order along the normal.
        orientation: directions along the rows and along the columns.
        spacing: distance of the rows and distance of the columns in mm, as `PixelSpacing` has them.

    Raises:
        NotAStackError: the slices are not straight behind one another at equal distances.
    """
    positions = np.asarray(positions, float)
    normal = normal_of(orientation)
    if len(positions) < 2:
        raise NotAStackError("found a single slice, expected two or more to know their distance")
    refuse_gaps(positions @ normal)
    refuse_shear(positions, normal)
    affine = np.eye(4)
    affine[:3, 0] = np.array(orientation[:3]) * spacing[1]
    affine[:3, 1] = np.array(orientation[3:]) * spacing[0]
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0]
    return affine


def refuse_gaps(along: np.ndarray) -> None:
    """Refuses slices at unequal distances.

    Args:
        along: places of the slices along the normal in mm, in order.
    """
    steps = np.diff(along)
    if steps.min() < SAME_PLACE_MM:
        raise NotAStackError(f"found two slices at the same place, {along[steps.argmin()]:.2f} mm along the normal")
    equal = along[0] + np.arange(len(along)) * (along[-1] - along[0]) / (len(along) - 1)
    if np.abs(along - equal).max() <= TOLERANCE_MM:
        return
    usual = float(np.median(steps))
    at = int(steps.argmax())
    missing = round(steps[at] / usual) - 1
    others = np.delete(steps, at)
    if missing >= 1 and abs(steps[at] - (missing + 1) * usual) < 0.1 * usual and np.ptp(others) < 0.1 * usual:
        raise NotAStackError(
            f"{missing} slice(s) missing between {along[at]:.2f} and {along[at + 1]:.2f} mm along the normal, where "
            f"the step is {steps[at]:.2f} mm in place of {usual:.2f}"
        )
    raise NotAStackError(f"the steps between slices differ, from {steps.min():.3f} to {steps.max():.3f} mm")


def refuse_shear(positions: np.ndarray, normal: np.ndarray) -> None:
    """Refuses slices that are shifted sideways against each other, as with a tilted gantry."""
    sideways = positions - positions[0]
    sideways = sideways - np.outer(sideways @ normal, normal)
    furthest = float(np.linalg.norm(sideways, axis=1).max())
    if furthest > TOLERANCE_MM:
        raise NotAStackError(
            f"the slices are shifted sideways by up to {furthest:.2f} mm, as with a tilted gantry, expected one "
            "straight behind another"
        )


def text(numbers: Sequence[float]) -> str:
    return "\\".join(f"{number:.5g}" for number in numbers)
