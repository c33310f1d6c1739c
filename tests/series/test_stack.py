"""Grids are compared by where they put the corners of a volume."""

import numpy as np
import pytest

from scripts.series.stack import furthest_corner_mm

AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])


def test_grids_are_compared_in_millimetres():
    moved, turned = AFFINE.copy(), AFFINE.copy()
    moved[:3, 3] = 3, 4, 0
    turned[:3, :3] = turned[:3, :3] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert furthest_corner_mm((3, 4, 5), AFFINE, AFFINE) == 0
    assert furthest_corner_mm((3, 4, 5), AFFINE, moved) == pytest.approx(5)
    assert furthest_corner_mm((3, 4, 5), AFFINE, turned) > 5
