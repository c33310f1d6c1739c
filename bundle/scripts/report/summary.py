"""From the measures of every case to what a reader wants to know: per class, per patient, and how sure it is."""

import math
from collections.abc import Sequence

import numpy as np

from scripts.report.measures import MEASURES, NAN

RESAMPLES = 10_000
SEED = 0


def summarise(cases: list[dict], class_names: Sequence[str]) -> dict:
    """Statistics of an evaluation.

    Args:
        cases: records with `case`, `patient` and `measures` by class, as `scripts.report.records` makes them.
        class_names: names of the values 0, 1, ...; the background is left out.

    Returns:
        `classes`, `patients`, `foreground` (Dice, mean over the classes) and `worst`, what to look at first.
    """
    names = list(class_names[1:])
    patients = [case["patient"] for case in cases]
    measures = [m for m in MEASURES if any(m in case["measures"][name] for case in cases for name in names)]
    table = np.array([[[case["measures"][n].get(m, NAN) for m in measures] for n in names] for case in cases])
    table = table.reshape(len(cases), len(names), len(measures))
    statuses = {name: [case["measures"][name]["status"] for case in cases] for name in names}
    for i, name in enumerate(names):  # what a false alarm is said to hold is counted apart, not averaged
        counts = [status in ("scored", "missed", "predicted") for status in statuses[name]]
        table[[not counted for counted in counts], i] = NAN
    sizes = table[:, :, measures.index("truth_ml")] if "truth_ml" in measures else np.zeros(table.shape[:2])
    honest, naive = intervals(table, patients), intervals(table, list(range(len(cases))))
    classes = {}
    for i, name in enumerate(names):
        alarms = [k for k, status in enumerate(statuses[name]) if status == "false alarm"]
        classes[name] = {
            "cases": len(cases),
            "n": sum(status in ("scored", "missed", "predicted") for status in statuses[name]),
            "missed": statuses[name].count("missed"),
            "absent": sum(status in ("absent", "not found") for status in statuses[name]),
            "false_alarms": len(alarms),
            "false_alarm_ml": float(sum(cases[k]["measures"][name]["predicted_ml"] for k in alarms)),
            "measures": {
                m: with_intervals(statistics(table[:, i, j], cases, m, sizes[:, i]), honest[i][j], naive[i][j])
                for j, m in enumerate(measures)
            },
        }
    result: dict = {"classes": classes, "foreground": None, "worst": None, "patients": {}}
    if "Dice" in measures:
        dice = table[:, :, measures.index("Dice")]
        result["foreground"] = foreground(dice, cases)
        result["worst"] = worst(cases, names)
        result["patients"] = {p: of_patient(p, cases, statuses, dice, names) for p in sorted(set(patients))}
    return result


def statistics(values: np.ndarray, cases: list[dict], measure: str = "Dice", sizes: np.ndarray | None = None) -> dict:
    """Number, mean, spread and worst case of one measure of one class; NaN does not count.

    Args:
        values: one a case.
        cases: the records.
        measure: distances and differences are worst where they are largest.
        sizes: of the structure; of equally bad cases, such as several missed ones, the largest is the worst.
    """
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        nothing = dict.fromkeys(("mean", "sd", "median", "min", "max"), NAN)
        return {"n": 0, **nothing, "patients": 0, "worst": None}
    found = values[known]
    largest_is_worst = measure.endswith("_mm") or measure == "difference_ml"
    ranked = -np.abs(found) if largest_is_worst else found
    ties = np.zeros(len(known)) if sizes is None else -np.nan_to_num(sizes[known])
    lowest = int(known[np.lexsort((ties, ranked))[0]])
    return {
        "n": len(known),
        "mean": float(found.mean()),
        "sd": float(found.std(ddof=1)) if len(known) > 1 else NAN,
        "median": float(np.median(found)),
        "min": float(found.min()),
        "max": float(found.max()),
        "patients": len({cases[k]["patient"] for k in known}),
        "worst": {"case": cases[lowest]["case"], "value": float(values[lowest])},
    }


def with_intervals(found: dict, honest: list[float] | None, naive: list[float] | None) -> dict:
    """The statistics with their interval, and the naive one where some patient has several scans."""
    several = honest is not None and found["patients"] < found["n"]
    return found | {"ci": honest, "ci_naive": naive if several else None}


def foreground(dice: np.ndarray, cases: list[dict]) -> dict:
    """Dice as the mean over the classes: of the classes' means, and of every case's classes for the spread."""
    honest = intervals(dice[..., None], [case["patient"] for case in cases], over_classes=True)[0][0]
    naive = intervals(dice[..., None], list(range(len(cases))), over_classes=True)[0][0]
    found = with_intervals(statistics(nanmean(dice, axis=1), cases), honest, naive)
    return found | {"mean": float(nanmean(nanmean(dice, axis=0), axis=0))}


def of_patient(patient: str, cases: list[dict], statuses: dict, dice: np.ndarray, names: list[str]) -> dict:
    """Dice of one patient's scans: class by class, and of every scan's mean over the classes."""
    rows = [k for k, case in enumerate(cases) if case["patient"] == patient]
    own = [cases[k] for k in rows]
    classes = {}
    for i, name in enumerate(names):
        of_class = [statuses[name][k] for k in rows]
        found = statistics(dice[rows, i], own)
        classes[name] = {"missed": of_class.count("missed"), "absent": of_class.count("absent")}
        classes[name] |= {key: found[key] for key in ("n", "mean", "sd", "median", "worst")}
    scans = statistics(nanmean(dice[rows], axis=1), own)
    return {
        "scans": len(rows),
        **{key: sum(found[key] for found in classes.values()) for key in ("missed", "absent")},
        "foreground": float(nanmean(np.array([found["mean"] for found in classes.values()]), axis=0)),
        **{key: scans[key] for key in ("sd", "median", "worst")},
        "classes": classes,
    }


def intervals(table: np.ndarray, groups: Sequence, over_classes: bool = False) -> list[list[list[float] | None]]:
    """95 % intervals of means by a percentile bootstrap that draws whole groups: all scans of a patient, or none.

    Scans of one patient are near copies, so that drawing scans one by one promises too much.

    Args:
        table: of shape (cases, classes, measures), NaN where not defined.
        groups: one a case; its patient, or the case itself for the naive interval.
        over_classes: the mean over the classes instead of each class by itself.

    Returns:
        By class (one row with `over_classes`) and measure: [low, high], or None with fewer than two groups.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    number = int(group.max()) + 1 if len(group) else 0
    known = ~np.isnan(table)
    sums, counts = (np.zeros((number, *table.shape[1:])) for _ in range(2))
    np.add.at(sums, group, np.where(known, table, 0))
    np.add.at(counts, group, known)
    draws = np.random.default_rng(SEED).multinomial(number, [1 / number] * number, size=RESAMPLES) if number else None
    rows = 1 if over_classes else table.shape[1]
    found: list = [[None] * table.shape[2] for _ in range(rows)]
    if number < 2:
        return found
    with np.errstate(invalid="ignore"):
        means = np.tensordot(draws, sums, 1) / np.tensordot(draws, counts, 1)  # resamples, classes, measures
    if over_classes:
        means = nanmean(means, axis=1)[:, None]
        counts = counts.sum(1, keepdims=True)
    for i in range(rows):
        for j in range(table.shape[2]):
            if (counts[:, i, j] > 0).sum() > 1:  # a draw without a single case of the class says nothing
                found[i][j] = [float(v) for v in np.nanpercentile(means[:, i, j], (2.5, 97.5))]
    return found


def nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    """As numpy's, without a warning where there is nothing to average."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis) / known.sum(axis)


def worst(cases: list[dict], names: Sequence[str]) -> dict | None:
    """The lowest Dice of all, of several missed structures the largest, and the slice that shows it."""
    scored = [
        (case["measures"][name]["Dice"], -case["measures"][name]["truth_ml"], case["case"], name, case)
        for case in cases
        for name in names
        if not math.isnan(case["measures"][name].get("Dice", NAN))
    ]
    if not scored:
        return None
    value, _, _, name, case = min(scored, key=lambda entry: entry[:4])
    picture, found = case.get("pictures", {}).get(name, {}), case["measures"][name]
    note = f"Predicted {found['predicted_ml']:.1f} ml, in truth {found['truth_ml']:.1f} ml"
    if found["status"] == "scored":
        note += f"; 95 % of the surfaces lie within {found['hd95_mm']:.1f} mm"
    return {
        "case": case["case"],
        "class": name,
        "value": value,
        "status": found["status"],
        "note": f"{note}.",
        **{key: picture.get(key) for key in ("plane", "slice", "axis")},
    }


def lines(summary: dict) -> list[str]:
    """The Dice of every class for a terminal: cases, misses, mean, its interval, spread and the worst case by name."""
    width = max(len(name) for name in (*summary["classes"], "mean foreground"))
    shown = [
        f"{'Dice':<{width}} {'n':>4} {'missed':>7} {'mean':>7} {'95 % interval':>15} {'sd':>7} {'median':>7}   worst"
    ]
    for name, found in summary["classes"].items():
        shown.append(line(name, width, found["n"], found["missed"], found["measures"]["Dice"]))
    total = sum(found["missed"] for found in summary["classes"].values())
    shown.append(line("mean foreground", width, summary["foreground"]["n"], total, summary["foreground"]))
    return shown


def line(name: str, width: int, n: int, missed: int, found: dict) -> str:
    between = f"{found['ci'][0]:.4f}-{found['ci'][1]:.4f}" if found["ci"] else "-"
    mean, spread, median = ("-" if math.isnan(found[key]) else f"{found[key]:.4f}" for key in ("mean", "sd", "median"))
    last = f"{found['worst']['value']:.4f} {found['worst']['case']}" if found["worst"] else "absent from every case"
    return f"{name:<{width}} {n:>4} {missed:>7} {mean:>7} {between:>15} {spread:>7} {median:>7}   {last}"
