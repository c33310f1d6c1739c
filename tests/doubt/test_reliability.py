"""Whether probabilities are right, on made-up voxels whose chances are known."""

import json

import numpy as np
import pytest

from scripts.doubt import reliability
from scripts.doubt.maps import doubt_of

NAMES = ["background", "organ", "other"]


def voxels(count: int = 40_000, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of which the true labels are drawn, and the same ones as a network that is too sure gives them."""
    rng = np.random.default_rng(seed)
    right = rng.dirichlet([0.5] * len(NAMES), count).T
    truth = (right.cumsum(0) < rng.random(count)).sum(0).clip(max=len(NAMES) - 1)
    return reliability.heated(right, 1 / temperature), truth.astype(np.uint8)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6, 2.5])
def test_the_temperature_is_found_that_makes_probabilities_right(temperature):
    sums = reliability.measure(*voxels(temperature=temperature), NAMES)
    found = reliability.best_temperature(sums)
    assert found == pytest.approx(temperature, rel=0.11)
    for name in NAMES[1:]:
        after = reliability.calibration_error(sums, name, found)
        assert after < 0.02
        if temperature != 1:
            assert after < reliability.calibration_error(sums, name) / 2


def test_the_curve_of_right_probabilities_is_the_diagonal():
    sums = reliability.measure(*voxels(), NAMES)
    for given, right, share in reliability.curve(sums, "organ"):
        assert abs(given - right) < 0.03 and 0 < share < 1
    assert sum(share for *_, share in reliability.curve(sums, "organ")) == pytest.approx(1)


def test_sums_of_cases_are_those_of_all_voxels():
    parts = [reliability.measure(*voxels(1000, seed=seed), NAMES) for seed in range(3)]
    both = [np.concatenate(arrays, -1) for arrays in zip(*(voxels(1000, seed=seed) for seed in range(3)))]
    whole, added = reliability.measure(*both, NAMES), reliability.add(parts)
    assert added["loss"] == pytest.approx(whole["loss"]) and added["voxels"] == whole["voxels"] == 3000
    assert np.allclose(added["classes"]["organ"]["sums"], whole["classes"]["organ"]["sums"], atol=0.01)
    assert json.loads(json.dumps(added)) == added and reliability.add([]) is None


def test_of_a_large_case_a_sample_is_measured():
    assert reliability.measure(*voxels(reliability.SAMPLE + 1000), NAMES)["voxels"] == reliability.SAMPLE


def test_what_the_network_did_not_see_does_not_count():
    probability, truth = voxels(100)
    rim = np.zeros((3, 50))
    found = reliability.measure(np.concatenate([probability, rim], 1), np.concatenate([truth, truth[:50]]), NAMES)
    assert found["voxels"] == 100


def test_doubt_is_what_the_label_does_not_have():
    probability = np.array([[0.7, 0.1, 0.2, 0.0], [0.3, 0.85, 0.3, 0.0], [0.0, 0.05, 0.5, 0.0]])
    labels = np.array([0, 1, 0, 0])
    assert doubt_of(probability, labels).tolist() == [30, 15, 80, 0]  # the last one was not seen
    heated = doubt_of(probability, labels, 2.0).tolist()
    assert heated[3] == 0 and heated[0] == 40 and heated[1] > 15  # a temperature makes the first two less sure
