"""Whether the bundle knows how good its results are: expected against true Dice on cases that taught nothing.

    python benchmarks/doubt.py NAME RUN [RUN ...] [--output DIR]

Each RUN is the folder of an evaluation with configs/calibrate.json. With several, as of the folds, the cases of each
are predicted by what the others have taught; with one, its patients are dealt into four parts. Where the others would
be fewer than twelve patients, each patient is predicted by what all others have taught. Cases made worse on purpose
are predicted too. The table has, by class:

- the mean distance of expected and true Dice, of the cases as they are,
- in how many of these the ranges for nine of ten hold, for the Dice and for the volume,
- how well results are found that are below the set's 10 % quantile: the area under the curve of the expected Dice, and
  of two naive signs, the mean probability and the mean entropy at the border; of the cases as they are, and with the
  worse ones.

Intervals are bootstraps over patients. The table of all sets is left in the output folder as doubt.md and doubt.json.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
from results import leave, rows_of_other_sets
from trainings import DEMO

PARTS = 4
BAD = 0.1  # quantile of the Dice below which a result is to be found
SCORES = {"expected Dice": "dice", "mean probability": "sure", "entropy": "border"}


@dataclass(frozen=True)
class Prediction:
    """A class of a case that taught nothing to the model that predicts it.

    Attributes:
        patient: whose image it is.
        worse: whether the case was made worse.
        true: its Dice.
        scores: by name of SCORES, higher for a better result.
        held: whether the ranges of Dice and volume hold, where the case is as it is.
    """

    patient: str
    worse: bool
    true: float
    scores: dict[str, float]
    held: tuple[bool, bool] | None


def cases_in_parts(runs: Sequence[Path]) -> tuple[list[str], list[list[dict]]]:
    """The names of the classes, and the cases in parts that are predicted one after the other."""
    from scripts.doubt.model import FEWEST

    contents = [json.loads((run / "metrics.json").read_text()) for run in runs]
    parts = [content["metric_per_case"] for content in contents]
    sizes = [len({case["patient"] for case in part}) for part in parts]
    if len(parts) == 1 or sum(sizes) - max(sizes) < FEWEST:
        cases = [case for part in parts for case in part]
        patients = sorted({case["patient"] for case in cases})
        count = PARTS if len(patients) * (PARTS - 1) // PARTS >= FEWEST else len(patients)
        part_of = {patient: number % count for number, patient in enumerate(patients)}
        parts = [[case for case in cases if part_of[case["patient"]] == part] for part in range(count)]
    return contents[0]["class_names"][1:], parts


def predictions(parts: list[list[dict]], name: str, value: str) -> list[Prediction]:
    """Every case of every part, by what the other parts have taught."""
    from scripts.doubt.calibration import fit_class

    found = []
    for number, part in enumerate(parts):
        model = fit_class([case for other in parts if other is not part for case in other], name, value)
        if model is None:
            raise SystemExit(f"{name}: too few patients outside part {number}; give more runs")
        for case in part:
            measured = case["metrics"][value]
            entries = [(case["signs"], measured["Dice"], False)] if name in case["signs"] else []
            entries += [(one["signs"], one["dice"][name], True) for one in case["worse"] if name in one["signs"]]
            for signs, true, worse in entries:
                if true is None or np.isnan(true):
                    continue
                expected = model.expect(signs[name], measured["predicted_ml"] or 0.0)
                scores = {"dice": expected.dice, "sure": signs[name]["sure"], "border": -signs[name]["border"]}
                held = None
                if not worse:
                    (low, high), (least, most) = expected.dice_range, expected.ml_range
                    held = low <= true <= high, least <= measured["truth_ml"] <= most
                found.append(Prediction(case["patient"], worse, true, scores, held))
    return found


def area(true: np.ndarray, scores: np.ndarray) -> float:
    """The area under the curve of finding results below the quantile by a low score."""
    bad = true <= np.quantile(true, BAD)
    low, high = scores[bad], scores[~bad]
    if not len(low) or not len(high):
        return float("nan")
    return float(np.mean((low[:, None] < high) + 0.5 * (low[:, None] == high)))


def measure(found: Sequence[Prediction]) -> dict[str, float]:
    """The figures of a class."""
    sound = [one for one in found if not one.worse]
    true, all_true = (np.array([one.true for one in some]) for some in (sound, found))
    figures = {"error": float(np.mean([abs(one.scores["dice"] - one.true) for one in sound]))}
    figures |= {f"{place} held": float(np.mean([one.held[i] for one in sound if one.held]))
                for i, place in enumerate(("Dice", "volume"))}  # fmt: skip
    for title, key in SCORES.items():
        figures[f"{title}, as they are"] = area(true, np.array([one.scores[key] for one in sound]))
        figures[f"{title}, worse too"] = area(all_true, np.array([one.scores[key] for one in found]))
    return figures


def intervals(found: Sequence[Prediction], draws: int = 500) -> dict[str, list[float]]:
    """95 % intervals of the figures; whole patients are drawn."""
    own: dict[str, list[Prediction]] = {}
    for one in found:
        own.setdefault(one.patient, []).append(one)
    names, rng, drawn = list(own), np.random.default_rng(0), []
    for _ in range(draws):
        some = [one for name in rng.choice(names, len(names)) for one in own[name]]
        drawn.append(measure(some))
    return {key: np.nanpercentile([one[key] for one in drawn], (2.5, 97.5)).tolist() for key in drawn[0]}


def table(rows: list[dict]) -> str:
    """The results in Markdown; where there are two figures, the first is of the cases as they are."""
    lines = [
        "| data | class | cases | mean distance | range of the Dice holds | range of the volume holds "
        "| low results found | by the mean probability | by the entropy |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        found = row["figures"]

        def shown(key: str, row: dict = row) -> str:
            low, high = row["ci"][key]
            return f"{row['figures'][key]:.3f} ({low:.3f} to {high:.3f})"

        both = [(f"{title}, as they are", f"{title}, worse too") for title in SCORES]
        areas = [
            " / ".join(map(shown, both[0])),
            *(" / ".join(f"{found[key]:.3f}" for key in pair) for pair in both[1:]),
        ]
        cells = [shown("error"), shown("Dice held"), shown("volume held"), *areas]
        lines.append(f"| {row['set']} | {row['class']} | {row['cases']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the data, for the table")
    parser.add_argument("runs", type=common.present, nargs="+", help="folders with the metrics.json of an evaluation")
    parser.add_argument("--output", type=Path, default=DEMO / "doubt")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = rows_of_other_sets(given.output / "doubt.json", given.name)
    names, parts = cases_in_parts(given.runs)
    for value, name in enumerate(names, start=1):
        found = predictions(parts, name, str(value))
        sound = sum(not one.worse for one in found)
        row = {"set": given.name, "class": name, "cases": sound, "processors": [common.processor()]}
        rows.append(row | {"figures": measure(found), "ci": intervals(found)})
    leave(rows, f"{table(rows)}\n\nResearch use only.\n", given.output / "doubt")


if __name__ == "__main__":
    main()
