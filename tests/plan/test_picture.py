"""What the picture of a plan shows."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from scripts.plan.picture import draw_classes, draw_sizes


@pytest.mark.parametrize("slices, names", [([1, 1], ["right", "front"]), ([1, 20], ["right", "front", "up"])])
def test_single_pictures_have_two_axes(slices, names):
    shapes = np.array([[96, 96, count] for count in slices])
    axes = Figure().subplots()
    draw_sizes(axes, SimpleNamespace(images=slices, shapes=shapes, spacings=np.ones((2, 3))))
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == names


def test_shares_are_shown_from_a_tenth_of_the_smallest():
    """Of bars on a scale of powers of ten, one that began at the smallest share would have no length."""
    axes = Figure().subplots()
    draw_classes(axes, SimpleNamespace(shares={"a": 0.004, "b": 0.2}, class_names=("background", "a", "b")))
    assert axes.get_xlim() == pytest.approx((0.0001, 1.0))
    assert axes.xaxis.get_major_formatter()(0.001, 0) == "0.1 %"
