"""The model of the expected Dice, on made-up cases whose Dice follows from their signs."""

import json

import numpy as np
import pytest

from scripts.doubt.model import FEWEST, SIGNS, ClassModel, fit, from_odds, odds, quantile


def cases(count: int, noise: float, seed: int = 0) -> tuple[list[dict], list[float], list[float]]:
    """Signs, Dice and ratios of volumes; agreement says most of the Dice, and growth of the volume."""
    rng = np.random.default_rng(seed)
    signs, dice, ratios = [], [], []
    for _ in range(count):
        quality = rng.normal(2.0, 0.7)
        one = {name: float(rng.uniform(0, 0.2)) for name in SIGNS}
        one |= {"agreement": from_odds(quality), "overlap": 0.9, "least": 0.8, "growth": float(rng.normal(0, 0.1))}
        signs.append(one)
        dice.append(from_odds(quality - 0.5 + noise * rng.normal()))
        ratios.append(float(np.exp(one["growth"] + noise * rng.normal())))
    return signs, dice, ratios


def patients(count: int, scans: int = 1) -> list[str]:
    return [f"p{number // scans:03}" for number in range(count)]


def test_what_follows_from_the_signs_is_predicted():
    signs, dice, ratios = cases(100, 0.01)
    model = fit(signs, dice, ratios, patients(100))
    others, true, grown = cases(50, 0.01, seed=1)
    found = [model.expect(one, 20.0) for one in others]
    assert max(abs(one.dice - value) for one, value in zip(found, true)) < 0.02
    middles = [np.sqrt(one.ml_range[0] * one.ml_range[1]) for one in found]
    assert max(abs(middle - 20 * ratio) for middle, ratio in zip(middles, grown)) < 1.0


@pytest.mark.parametrize("noise", [0.2, 0.6])
def test_ranges_hold_in_nine_of_ten_cases(noise):
    signs, dice, ratios = cases(120, noise)
    model = fit(signs, dice, ratios, patients(120))
    others, true, grown = cases(1000, noise, seed=1)
    found = [model.expect(one, 20.0) for one in others]
    held = np.mean([one.dice_range[0] <= value <= one.dice_range[1] for one, value in zip(found, true)])
    volumes = np.mean([one.ml_range[0] <= 20 * ratio <= one.ml_range[1] for one, ratio in zip(found, grown)])
    assert 0.85 < held < 0.96 and 0.85 < volumes < 0.96
    assert all(0 <= one.dice_range[0] <= one.dice <= one.dice_range[1] <= 1 for one in found)


def test_signs_that_say_nothing_leave_the_mean():
    signs, dice, ratios = cases(100, 0.0)
    shuffled = np.random.default_rng(2).permutation(dice).tolist()
    model = fit(signs, shuffled, ratios, patients(100))
    found = [model.expect(one, 1.0).dice for one in signs]
    assert np.std(found) < 0.35 * np.std(dice) and abs(np.mean(found) - np.median(dice)) < 0.03


def test_scans_of_a_patient_are_no_further_patients():
    signs, dice, ratios = cases(60, 0.3)
    assert fit(signs, dice, ratios, patients(60, scans=60 // (FEWEST - 1) + 1)) is None
    model = fit(signs, dice, ratios, patients(60, scans=5))
    assert (model.cases, model.patients) == (60, 12)


def test_a_model_is_the_same_after_it_was_kept():
    signs, dice, ratios = cases(30, 0.3)
    model = fit(signs, dice, ratios, patients(30))
    again = ClassModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model and again.expect(signs[0], 3.0) == model.expect(signs[0], 3.0)


@pytest.mark.parametrize("count, place", [(9, 9), (19, 18), (99, 90), (4, 4)])
def test_the_error_that_holds_for_a_further_patient(count, place):
    errors = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert quantile(errors, np.ones(count)) == place


def test_odds_are_finite_and_can_be_turned_back():
    shares = np.array([0, 0.3, 1.0])
    assert np.isfinite(odds(shares)).all()
    assert [from_odds(value) for value in odds(shares)] == pytest.approx(shares.tolist(), abs=1e-9)
