"""What signs say of a result: the Dice to be expected, and ranges that hold in nine of ten cases.

A small linear model for each class is fitted on cases with a truth. Ranges are conformal: each case is predicted by a
model that has not seen its patient, and the range is as wide as nine of ten of these errors are. That promises the
share for further cases of the same kind, and says nothing of other kinds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from scripts.doubt.signs import SIGNS

HELD = 0.9  # share of the cases in which a range holds
FEWEST = 12  # patients below which no model is fitted
PARTS = 10  # at most, into which the patients are divided
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of the ridge regression, tried on patients that are left out
SOFT = 0.005  # keeps odds of 0 and 1 finite


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
    """A linear model of the signs, with the size of its errors.

    Attributes:
        centre: mean of each sign.
        scale: standard deviation of each.
        slopes: for each sign.
        start: the value where all signs are as in the mean.
        error: that nine of ten cases stay below.
    """

    centre: list[float]
    scale: list[float]
    slopes: list[float]
    start: float
    error: float

    def __call__(self, signs: np.ndarray) -> np.ndarray:
        return self.start + (signs - self.centre) / self.scale @ np.asarray(self.slopes)


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
        row = features([signs])
        middle, ratio = float(self.dice(row)[0]), float(self.volume(row)[0])
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


def fit(
    signs: Sequence[Mapping[str, float]], dice: Sequence[float], ratios: Sequence[float], patients: Sequence[str]
) -> ClassModel | None:
    """The models of a class, or None where there are too few patients.

    Args:
        signs: of every case that has the class in its label map.
        dice: of the same cases.
        ratios: true volume over that of the label map.
        patients: of the same cases.
    """
    count = len(set(patients))
    if count < FEWEST:
        return None
    rows, parts = features(signs), parts_of(patients)
    found = np.clip(np.asarray(ratios, float), 0.01, 100)
    lines = [fit_line(rows, values, parts, patients) for values in (odds(np.asarray(dice, float)), np.log(found))]
    return ClassModel(lines[0], lines[1], len(dice), count)


def fit_line(rows: np.ndarray, values: np.ndarray, parts: np.ndarray, patients: Sequence[str]) -> Line:
    """The linear model of all cases, with the penalty and the error of those that leave patients out."""
    weights = 1 / np.array([list(patients).count(patient) for patient in patients])  # patients count alike
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in PENALTIES:
        left_out = np.empty(len(values))
        for part in np.unique(parts):
            inside = parts != part
            line = ridge(rows[inside], values[inside], weights[inside], penalty)
            left_out[~inside] = apply(line, rows[~inside])
        errors = np.abs(values - left_out)
        score = float(np.average(errors, weights=weights))
        if best is None or score < best[0]:
            best = score, penalty, errors
    assert best is not None
    centre, scale, slopes, start = ridge(rows, values, weights, best[1])
    return Line(centre.tolist(), scale.tolist(), slopes.tolist(), start, quantile(best[2], weights))


def ridge(
    rows: np.ndarray, values: np.ndarray, weights: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Centre and scale of the signs, slopes and start of a ridge regression."""
    share = weights / weights.sum()
    centre = share @ rows
    scale = np.sqrt(share @ (rows - centre) ** 2)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z, start = (rows - centre) / scale, float(share @ values)
    moments = (z * weights[:, None]).T @ z + penalty * np.eye(rows.shape[1])
    return centre, scale, np.linalg.solve(moments, (z * weights[:, None]).T @ (values - start)), start


def apply(line: tuple, rows: np.ndarray) -> np.ndarray:
    centre, scale, slopes, start = line
    return start + (rows - centre) / scale @ slopes


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


def features(signs: Sequence[Mapping[str, float]]) -> np.ndarray:
    """The signs of every case as a row of numbers of which a Dice depends about linearly."""
    table = np.array([[float(one[name]) for name in SIGNS] for one in signs]).reshape(len(signs), len(SIGNS))
    places = {name: number for number, name in enumerate(SIGNS)}
    for name in ("overlap", "agreement", "least"):
        table[:, places[name]] = odds(table[:, places[name]])
    for name in ("spread", "border", "loose"):
        table[:, places[name]] = np.log(table[:, places[name]] + 0.01)
    return table


def odds(share: np.ndarray) -> np.ndarray:
    """The logarithm of the odds, finite also for 0 and 1."""
    return np.log((share + SOFT) / (1 - share + SOFT))


def from_odds(value: float) -> float:
    """The share that has these odds."""
    return float(np.clip((1 + 2 * SOFT) / (1 + math.exp(-value)) - SOFT, 0, 1))
