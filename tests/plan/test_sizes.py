"""The arithmetic of a plan's grid."""

import numpy as np
import pytest

from scripts.plan import sizes

SHAPES = [
    ((160, 160, 24), (1, 1, 3.6)),
    ((256, 256, 128), (0.8, 0.8, 1.5)),
    ((40, 60, 10), (3, 3, 3)),
    ((512, 512, 20), (0.4, 0.4, 6)),
]


@pytest.mark.parametrize("shape, spacing", SHAPES)
@pytest.mark.parametrize("most", [30_000, 200_000, 1_000_000])
def test_a_grid_has_about_as_many_voxels_as_asked_for(shape, spacing, most):
    found = sizes.fitting_sizes(shape, spacing, most)
    multiple = 2 ** (sizes.levels_of(found) - 1)
    assert all(n % multiple == 0 and n >= 2 * multiple for n in found)
    aim = min(most, np.prod(shape))
    assert 0.5 * aim < np.prod(found) < 2.2 * aim


def test_long_voxels_are_not_made_longer_before_the_others():
    right, front, up = sizes.fitting_sizes((160, 160, 24), (1, 1, 3.6), 200_000)
    assert up == 24 and right == front < 160


def test_thick_slices_are_as_many_as_in_nearly_all_images():
    shapes = np.array([[160, 160, 24]] * 8 + [[256, 256, 40]] * 2)
    assert sizes.many_slices([160, 160, 24], [1, 1, 3.6], shapes).tolist() == [160, 160, 40]
    assert sizes.many_slices([160, 160, 24], [1, 1, 1.5], shapes).tolist() == [160, 160, 24]
    assert sizes.many_slices([160, 160, 24], [1, 1, 3.6], shapes[:8]).tolist() == [160, 160, 24]


def test_what_is_small_enough_stays():
    assert sizes.fitting_sizes((96, 96, 48), (1, 1, 1), 1e6) == [96, 96, 48]


def test_the_levels_of_what_was_rounded_fit_it():
    """Rounding up may leave room for one level more, which wants another multiple."""
    random = np.random.default_rng(0)
    for size in ([47, 58, 58], *random.uniform(8, 100, (500, 3))):
        for made in (sizes.rounded(size), sizes.rounded(size, up=True)):
            assert all(n % 2 ** (sizes.levels_of(made) - 1) == 0 for n in made), (size, made)


@pytest.mark.parametrize("size, levels", [([128, 128, 64], 5), ([40, 56, 40], 4), ([96, 96, 8], 3)])
def test_levels(size, levels):
    assert sizes.levels_of(size) == levels


def test_what_is_kept_has_every_class_with_a_margin():
    box = np.array([[0.27, 0.31, 0.04], [0.75, 0.80, 1.0]])
    kept = np.array(sizes.kept_share(box))
    assert kept.tolist() == [0.7, 0.8, 1.0]
    inside = kept < 1
    assert ((0.5 - kept / 2)[inside] <= box[0][inside] - sizes.MARGIN + 0.05).all()
    assert sizes.kept_share(np.array([[0, 0, 0], [1, 1, 1]])) == sizes.kept_share(None) == [1.0, 1.0, 1.0]


def test_rotations_fit_the_sides_of_the_voxels():
    assert sizes.rotation_shares([1, 1, 1]) == [1, 1, 1]
    assert sizes.rotation_shares([1, 1, 4]) == [0.2, 0.2, 1]
