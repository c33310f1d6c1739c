"""Whether a probability of 80 % is right in 80 of 100 voxels, and the temperature that makes it so.

Probabilities are taken to the power of 1 / temperature, and divided by their sum: above 1 they become more careful.
A case is measured on a sample of its voxels, at every temperature of a list, so that sums over the cases are enough to
choose one.
"""

import math
from collections.abc import Sequence

import numpy as np

TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0)
BINS = 10
SAMPLE = 50_000  # voxels of a case
POSSIBLE = 0.01  # voxels count for a class if it is true there, or its probability is above this


def heated(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities, classes first, at a temperature."""
    if temperature == 1:
        return probability
    powers = np.maximum(probability, 1e-12) ** (1 / temperature)
    return powers / powers.sum(0)


def measure(probability: np.ndarray, truth: np.ndarray, class_names: Sequence[str]) -> dict:
    """The sums of a case.

    Args:
        probability: of the classes, first axis.
        truth: labels of the same voxels.
        class_names: names of the values 0, 1, ...

    Returns:
        `voxels`, `loss` (sum of the cross-entropy at every temperature) and by class `counts`, `sums` (of the
        probability) and `hits`, each by temperature and bin.
    """
    flat, labels = probability.reshape(len(class_names), -1), truth.ravel()
    seen = np.flatnonzero(flat.sum(0) > 0.5)
    if len(seen) > SAMPLE:
        seen = np.random.default_rng(0).choice(seen, SAMPLE, replace=False)
    found, true = flat[:, seen].astype(np.float64), labels[seen].astype(np.intp)
    found /= found.sum(0)
    loss: list[float] = []
    classes: dict[str, dict] = {name: {"counts": [], "sums": [], "hits": []} for name in class_names[1:]}
    for temperature in TEMPERATURES:
        given = heated(found, temperature)
        chosen = np.take_along_axis(given, true[None], 0)[0]
        loss.append(float(-np.log(np.maximum(chosen, 1e-12)).sum()))
        for value, name in enumerate(class_names[1:], start=1):
            hits = true == value
            counted = hits | (given[value] > POSSIBLE)
            shares, right = given[value][counted], hits[counted]
            bins = np.minimum((shares * BINS).astype(int), BINS - 1)
            for key, weights in (("counts", None), ("sums", shares), ("hits", right)):
                classes[name][key].append(np.bincount(bins, weights, BINS).round(3).tolist())
    return {"voxels": len(seen), "loss": loss, "classes": classes}


def add(cases: Sequence[dict]) -> dict | None:
    """The sums of all cases; None without any."""
    if not cases:
        return None
    names = cases[0]["classes"]
    return {
        "voxels": sum(case["voxels"] for case in cases),
        "loss": np.sum([case["loss"] for case in cases], 0).tolist(),
        "classes": {
            name: {
                key: np.sum([case["classes"][name][key] for case in cases], 0).tolist()
                for key in ("counts", "sums", "hits")
            }
            for name in names
        },
    }


def best_temperature(sums: dict) -> float:
    """The temperature with the least cross-entropy."""
    return TEMPERATURES[int(np.argmin(sums["loss"]))]


def curve(sums: dict, name: str, temperature: float = 1.0) -> list[tuple[float, float, float]]:
    """Of a class, for each bin that has voxels: mean probability, share that is right, share of the voxels."""
    at = TEMPERATURES.index(temperature)
    found = sums["classes"][name]
    counts, totals, hits = (np.asarray(found[key][at]) for key in ("counts", "sums", "hits"))
    known = counts > 0
    columns = totals[known] / counts[known], hits[known] / counts[known], counts[known] / counts.sum()
    return list(zip(*(column.tolist() for column in columns)))


def calibration_error(sums: dict, name: str, temperature: float = 1.0) -> float:
    """The expected calibration error of a class: mean distance between probability and share that is right."""
    found = curve(sums, name, temperature)
    return sum(share * abs(given - right) for given, right, share in found) if found else math.nan
