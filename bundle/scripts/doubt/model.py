"""What signs say of a result: the Dice to be expected, and ranges that hold in nine of ten cases.

A small model for each class is fitted on cases with a truth: a line, with another slope below what sound cases show.
Ranges are conformal: each case is predicted by a model that has not seen its patient, and the range is as wide as nine
of ten of these errors are. That promises the share for further cases of the same kind, and says nothing of other kinds.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import nnls

from scripts.doubt.signs import SIGNS

HELD = 0.9  # share of the cases in which a range holds
FEWEST = 12  # patients below which no model is fitted
PARTS = 10  # at most, into which the patients are divided
KNOT = 0.1  # quantile of the sound cases, below which a sign has a slope of its own
SOUND_WEIGHT = 10.0  # of a case as it is; one that was made worse has 1
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of the ridge regression, tried on patients that are left out
SOFT = 0.005  # keeps odds of 0 and 1 finite
FARTHEST = 4.0  # standard deviations of a sign


@dataclass(frozen=True)
class Example:
    """A class of a case with a truth.

    Attributes:
        signs: of the class.
        dice: of the class.
        patient: whose image it is.
        ratio: true volume over that of the label map.
    """

    signs: Mapping[str, float]
    dice: float
    patient: str
    ratio: float = 1.0


@dataclass(frozen=True)
class Expected:
    """What is expected of a class of a case.

    Attributes:
        dice: expected Dice.
        dice_range: that holds for the Dice in nine of ten cases.
        ml_range: likewise for the true volume, in millilitres.
    """

    dice: float
    dice_range: tuple[float, float]
    ml_range: tuple[float, float]

    def to_dict(self) -> dict:
        return {"dice": self.dice, "dice_range": list(self.dice_range), "ml_range": list(self.ml_range)}


@dataclass(frozen=True)
class Line:
    """A model of the signs that is linear above a knot and below it, with the size of its errors.

    Attributes:
        knots: of each sign: what is below is a number of its own; none where there is one line.
        centre: mean of each number.
        scale: standard deviation of each.
        slopes: for each.
        start: the value where all signs are as in the mean.
        error: that nine of ten cases stay below.
    """

    knots: list[float]
    centre: list[float]
    scale: list[float]
    slopes: list[float]
    start: float
    error: float

    def __call__(self, signs: np.ndarray) -> np.ndarray:
        line = self.centre, self.scale, self.slopes, self.start
        return apply(line, split(signs, self.knots), bound_of(self.knots))


@dataclass(frozen=True)
class ClassModel:
    """The models of a class.

    Attributes:
        dice: of the odds of the Dice.
        volume: of the logarithm of the true volume over that of the label map.
        cases: on which both were fitted.
        patients: of these cases.
    """

    dice: Line
    volume: Line
    cases: int
    patients: int

    def expect(self, signs: Mapping[str, float], ml: float) -> Expected:
        """What is expected of a case.

        Args:
            signs: of the class.
            ml: volume of the class in the label map.
        """
        one = [Example(signs, 0.0, "")]
        middle, ratio = float(self.dice(features(one, better=True))[0]), float(self.volume(features(one))[0])
        low, high = (from_odds(middle + side * self.dice.error) for side in (-1, 1))
        volumes = [ml * math.exp(ratio + side * self.volume.error) for side in (-1, 1)]
        return Expected(from_odds(middle), (low, high), (volumes[0], volumes[1]))

    def reach(self) -> float:
        """Half of the range of the Dice of an average case."""
        low, high = (from_odds(self.dice.start + side * self.dice.error) for side in (-1, 1))
        return (high - low) / 2

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping) -> "ClassModel":
        return cls(Line(**content["dice"]), Line(**content["volume"]), content["cases"], content["patients"])


def fit(sound: Sequence[Example], worse: Sequence[Example] = ()) -> ClassModel | None:
    """The models of a class, or None where there are too few patients.

    Args:
        sound: the cases as they are, that have the class in their label map. The ranges are those of these cases.
        worse: the same cases made worse, from which the model of the Dice learns what bad results look like.
    """
    patients = [one.patient for one in sound]
    if len(set(patients)) < FEWEST:
        return None
    both = [*sound, *worse]
    ratios = np.clip([one.ratio for one in sound], 0.01, 100)
    dice = fit_line(features(both, better=True), odds(np.array([one.dice for one in both])), both, len(sound), True)
    volume = fit_line(features(sound), np.log(ratios), sound, len(sound), False)
    return ClassModel(dice, volume, len(sound), len(set(patients)))


def fit_line(rows: np.ndarray, values: np.ndarray, examples: Sequence[Example], sound: int, rising: bool) -> Line:
    """The linear model of all cases, with the penalty and the error of those that leave patients out.

    Args:
        rows: the signs.
        values: to be predicted.
        examples: whose rows they are.
        sound: the first so many are cases as they are; only these count in the error.
        rising: no slope is below 0.
    """
    patients = [one.patient for one in examples]
    counts = Counter(patients[:sound])
    share = 1 / np.array([counts[patient] for patient in patients[:sound]])  # patients count alike
    weights = np.concatenate([SOUND_WEIGHT * share, np.ones(len(rows) - sound)])
    knots = np.quantile(rows[:sound], KNOT, axis=0).tolist() if len(rows) > sound else []
    numbers, parts, best = split(rows, knots), parts_of(patients), None
    for penalty in PENALTIES:
        left_out = np.empty(len(values))
        for part in np.unique(parts):
            inside = parts != part
            line = ridge(numbers[inside], values[inside], weights[inside], penalty, rising)
            left_out[~inside] = apply(line, numbers[~inside], bound_of(knots))
        errors = np.abs(values - left_out)[:sound]
        score = float(np.average(errors, weights=share))
        if best is None or score < best[0]:
            best = score, penalty, errors
    assert best is not None
    centre, scale, slopes, start = ridge(numbers, values, weights, best[1], rising)
    return Line(knots, centre.tolist(), scale.tolist(), slopes.tolist(), start, quantile(best[2], share))


def split(rows: np.ndarray, knots: Sequence[float]) -> np.ndarray:
    """The part of every sign above its knot, and the part below; the signs themselves where there are no knots."""
    if not len(knots):
        return rows
    return np.concatenate([np.maximum(rows, knots), np.minimum(rows - np.asarray(knots), 0)], axis=1)


def ridge(
    rows: np.ndarray, values: np.ndarray, weights: np.ndarray, penalty: float, rising: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Centre and scale of the signs, slopes and start of a ridge regression."""
    share = weights / weights.sum()
    centre = share @ rows
    scale = np.sqrt(share @ (rows - centre) ** 2)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z, start = (rows - centre) / scale, float(share @ values)
    root = np.sqrt(weights)
    left = np.concatenate([z * root[:, None], math.sqrt(penalty) * np.eye(rows.shape[1])])
    right = np.concatenate([(values - start) * root, np.zeros(rows.shape[1])])
    slopes = nnls(left, right)[0] if rising else np.linalg.lstsq(left, right, rcond=None)[0]
    return centre, scale, slopes, start


def apply(line: tuple, rows: np.ndarray, bound: float = math.inf) -> np.ndarray:
    centre, scale, slopes, start = line
    return start + np.clip((rows - centre) / scale, -bound, bound) @ slopes


def bound_of(knots: Sequence[float]) -> float:
    """How far a sign counts, in standard deviations: a line that has seen sound cases alone says nothing of others."""
    return math.inf if len(knots) else FARTHEST


def quantile(errors: np.ndarray, weights: np.ndarray) -> float:
    """The error that holds for a further patient in nine of ten cases: with n patients the ceil(0.9 (n + 1))-th."""
    order = np.argsort(errors)
    total = weights.sum()  # the number of patients
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, min(HELD * (total + 1), total) - 1e-9))
    return float(errors[order][min(place, len(errors) - 1)])


def parts_of(patients: Sequence[str]) -> np.ndarray:
    """The part of every case; all cases of a patient are in the same part."""
    names = sorted(set(patients))
    number = {name: place % min(PARTS, len(names)) for place, name in enumerate(names)}
    return np.array([number[patient] for patient in patients])


def features(examples: Sequence[Example], better: bool = False) -> np.ndarray:
    """The signs of every case as a row of numbers of which a Dice depends about linearly.

    Args:
        examples: the cases.
        better: turns all signs so that a larger number is a better sign.
    """
    table = np.array([[float(one.signs[name]) for name in SIGNS] for one in examples]).reshape(-1, len(SIGNS))
    places = {name: number for number, name in enumerate(SIGNS)}
    for name in ("sure", "overlap", "agreement", "least"):
        table[:, places[name]] = odds(table[:, places[name]])
    for name in ("spread", "border", "loose"):
        table[:, places[name]] = -np.log(table[:, places[name]] + 0.01)
    if better:
        table[:, places["growth"]] = -np.abs(table[:, places["growth"]])
    return table


def odds(share: np.ndarray) -> np.ndarray:
    """The logarithm of the odds, finite also for 0 and 1."""
    return np.log((share + SOFT) / (1 - share + SOFT))


def from_odds(value: float) -> float:
    """The share that has these odds."""
    return float(np.clip((1 + 2 * SOFT) / (1 + math.exp(-value)) - SOFT, 0, 1))
