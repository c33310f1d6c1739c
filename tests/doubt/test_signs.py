"""The signs of a good or a bad result, on results whose signs can be counted by hand."""

import math

import pytest
import torch

from scripts.doubt.signs import SIGNS, rim, take

NAMES = ["background", "organ", "other"]


def sure(labels: torch.Tensor, share: float = 1.0) -> torch.Tensor:
    """Probabilities that give the labels this share; the others have the rest."""
    hot = torch.nn.functional.one_hot(labels.long(), len(NAMES)).movedim(-1, 0).float()
    return hot * share + (1 - hot) * (1 - share) / (len(NAMES) - 1)


def box(low: int = 2, high: int = 6, value: int = 1) -> torch.Tensor:
    labels = torch.zeros(8, 8, 8, dtype=torch.long)
    labels[low:high, 2:6, 2:6] = value
    return labels


def test_looks_that_agree_and_are_sure():
    mean, found = take(box(), [sure(box())] * 3, NAMES)
    assert torch.equal(mean, sure(box())) and list(found) == ["organ"] and list(found["organ"]) == list(SIGNS)
    expected = {"sure": 1, "overlap": 1, "agreement": 1, "least": 1, "spread": 0, "border": 0, "loose": 0, "growth": 0}
    assert found["organ"] == pytest.approx(expected, abs=1e-6)


def test_a_look_at_another_place_counts_in_the_agreement():
    """Half of the second look's box lies on that of the result."""
    _, found = take(box(), [sure(box()), sure(box(4, 8))], NAMES)
    assert found["organ"]["least"] == 0.5 and found["organ"]["agreement"] == 0.75
    assert found["organ"]["overlap"] == pytest.approx(2 * 48 / (64 + 64)) and found["organ"]["spread"] == 0


def test_volumes_that_differ_spread():
    _, found = take(box(), [sure(box(2, 4))], NAMES)
    sizes = [math.log1p(64), math.log1p(32)]
    assert found["organ"]["spread"] == pytest.approx((sizes[0] - sizes[1]) / 2)
    assert found["organ"]["growth"] == pytest.approx(math.log(0.5))


def test_what_is_not_sure_lowers_the_expected_overlap_and_raises_the_entropy():
    _, less = take(box(), [sure(box(), 0.6)], NAMES)
    _, more = take(box(), [sure(box(), 0.9)], NAMES)
    assert less["organ"]["overlap"] < more["organ"]["overlap"] < 1
    assert less["organ"]["border"] > more["organ"]["border"] > 0
    even = -(0.6 * math.log(0.6) + 0.4 * math.log(0.2)) / math.log(3)
    assert less["organ"]["border"] == pytest.approx(even, abs=1e-5)


def test_pieces_are_loose():
    labels = box()
    labels[0, 0, 0:2] = 1  # two voxels apart from the 64 of the box
    assert take(labels, [sure(labels)], NAMES)[1]["organ"]["loose"] == pytest.approx(2 / 66)


def test_a_class_that_fills_the_grid_has_no_border():
    full = torch.ones(4, 4, 4, dtype=torch.long)
    assert take(full, [sure(full, 0.8)], NAMES)[1]["organ"]["border"] == 0


def test_slices_have_signs_too():
    assert rim(box()[:, :, 3] > 0).sum() == 6 * 6 - 2 * 2 == 32
    assert rim(box() > 0).sum() == 6**3 - 2**3
