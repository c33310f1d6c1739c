"""From the measures of every case to what a reader wants to know: per class, per patient, and how certain it is."""

import math
from collections.abc import Sequence

import numpy as np

from scripts.report.measures import MEASURES, NAN
from scripts.report.schema import CaseRecord, ClassSummary, PatientSummary, Statistics, Summary, WorstResult
from scripts.report.tables import volume

RESAMPLES = 10_000
FEWEST_RESAMPLES, MOST_DRAWN = 1000, 2 * 10**8  # of very many patients, fewer resamples are as exact
AT_ONCE = 2**23  # patients that are drawn before their means are computed, to save memory
SEED = 0
COUNTED = ("scored", "missed", "predicted")  # a false alarm has a volume, but it is not averaged


def summarise(cases: Sequence[CaseRecord], class_names: Sequence[str]) -> Summary:
    """Statistics of an evaluation.

    Args:
        cases: records of the cases.
        class_names: names of the values 0, 1, ...; the background is left out.
    """
    names = list(class_names[1:])
    measures = [m for m in MEASURES if any(m in case.measures[name] for case in cases for name in names)]
    table = np.array([[[case.measures[n].get(m, NAN) for m in measures] for n in names] for case in cases])
    table = table.reshape(len(cases), len(names), len(measures))
    counted = np.array([[case.status(name) in COUNTED for name in names] for case in cases])
    table[~counted.reshape(len(cases), len(names))] = NAN
    sizes = table[:, :, measures.index("truth_ml")] if "truth_ml" in measures else np.zeros(table.shape[:2])
    by_patient = intervals(table, [case.patient for case in cases])
    by_scan = intervals(table, range(len(cases)))
    classes = {}
    for i, name in enumerate(names):
        statuses = [case.status(name) for case in cases]
        alarms = [case for case in cases if case.status(name) == "false alarm"]
        classes[name] = ClassSummary(
            cases=len(cases),
            n=sum(status in COUNTED for status in statuses),
            missed=statuses.count("missed"),
            absent=sum(status in ("absent", "not found") for status in statuses),
            false_alarms=len(alarms),
            false_alarm_ml=float(sum(case.measures[name]["predicted_ml"] for case in alarms)),
            measures={
                m: add_intervals(statistics(table[:, i, j], cases, m, sizes[:, i]), by_patient[i][j], by_scan[i][j])
                for j, m in enumerate(measures)
            },
        )
    if "Dice" not in measures:
        return Summary(classes)
    dice = table[:, :, measures.index("Dice")]
    rows_of: dict[str, list[int]] = {}
    for row, case in enumerate(cases):
        rows_of.setdefault(case.patient, []).append(row)
    patients = {patient: summarise_patient(rows_of[patient], cases, dice, names) for patient in sorted(rows_of)}
    return Summary(classes, summarise_foreground(dice, cases), find_worst(cases, names), patients)


def statistics(
    values: np.ndarray, cases: Sequence[CaseRecord], measure: str = "Dice", sizes: np.ndarray | None = None
) -> Statistics:
    """Number, mean, spread and worst case of one measure of one class; NaN does not count.

    Args:
        values: one for each case.
        cases: the records.
        measure: says whether the largest or the smallest value is the worst.
        sizes: of the structure; of equally bad cases, such as several missed ones, the largest is the worst.
    """
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return Statistics(0, NAN, NAN, NAN, NAN, NAN, 0, None)
    found = values[known]
    ranked = -np.abs(found) if MEASURES[measure].better in ("less", "zero") else found
    ties = np.zeros(len(known)) if sizes is None else -np.nan_to_num(sizes[known])
    lowest = int(known[np.lexsort((ties, ranked))[0]])
    return Statistics(
        n=len(known),
        mean=float(found.mean()),
        sd=float(found.std(ddof=1)) if len(known) > 1 else NAN,
        median=float(np.median(found)),
        min=float(found.min()),
        max=float(found.max()),
        patients=len({cases[k].patient for k in known}),
        worst={"case": cases[lowest].case, "value": float(values[lowest])},
    )


def add_intervals(found: Statistics, by_patient: list[float] | None, by_scan: list[float] | None) -> Statistics:
    """The statistics with their interval, and the naive one where some patient has several scans."""
    found.ci = by_patient
    found.ci_naive = by_scan if by_patient is not None and found.patients < found.n else None
    return found


def summarise_foreground(dice: np.ndarray, cases: Sequence[CaseRecord]) -> Statistics:
    """Dice as the mean over the classes: of the classes' means, and of every case's classes for the spread."""
    by_patient = intervals(dice[..., None], [case.patient for case in cases], over_classes=True)[0][0]
    by_scan = intervals(dice[..., None], range(len(cases)), over_classes=True)[0][0]
    found = add_intervals(statistics(nanmean(dice, axis=1), cases), by_patient, by_scan)
    found.mean = float(nanmean(nanmean(dice, axis=0), axis=0))
    return found


def summarise_patient(
    rows: Sequence[int], cases: Sequence[CaseRecord], dice: np.ndarray, names: Sequence[str]
) -> PatientSummary:
    """Dice of the scans in these rows, which are of one patient: class by class, and of every scan's mean."""
    own = [cases[k] for k in rows]
    classes = {}
    for i, name in enumerate(names):
        statuses = [case.status(name) for case in own]
        found = statistics(dice[rows, i], own)
        classes[name] = {"missed": statuses.count("missed"), "absent": statuses.count("absent")}
        classes[name] |= {key: getattr(found, key) for key in ("n", "mean", "sd", "median", "worst")}
    scans = statistics(nanmean(dice[rows], axis=1), own)
    return PatientSummary(
        scans=len(rows),
        missed=sum(found["missed"] for found in classes.values()),
        absent=sum(found["absent"] for found in classes.values()),
        foreground=float(nanmean(np.array([found["mean"] for found in classes.values()]), axis=0)),
        sd=scans.sd,
        median=scans.median,
        worst=scans.worst,
        classes=classes,
    )


def intervals(table: np.ndarray, groups: Sequence, over_classes: bool = False) -> list[list[list[float] | None]]:
    """95 % intervals of means by a percentile bootstrap that draws whole groups: all scans of a patient, or none.

    Scans of one patient are nearly copies of each other. Drawing scans one by one would make the interval too narrow.

    Args:
        table: of shape (cases, classes, measures), NaN where not defined.
        groups: one for each case: its patient, or the case itself for the naive interval.
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
    rows = 1 if over_classes else table.shape[1]
    found: list = [[None] * table.shape[2] for _ in range(rows)]
    if number < 2:
        return found
    means = resampled_means(sums, counts)  # resamples, classes, measures
    if over_classes:
        means = nanmean(means, axis=1)[:, None]
        counts = counts.sum(1, keepdims=True)
    for i in range(rows):
        for j in range(table.shape[2]):
            if (counts[:, i, j] > 0).sum() > 1:  # draws without a case of the class are left out
                found[i][j] = [float(v) for v in np.nanpercentile(means[:, i, j], (2.5, 97.5))]
    return found


def resampled_means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means over groups that are drawn at random, of shape (resamples, ...).

    Args:
        sums: of each group's values, of shape (groups, ...).
        counts: how many values each of them is of.
    """
    number = len(sums)
    resamples = min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_DRAWN // number))
    rng, found, drawn = np.random.default_rng(SEED), [], 0
    while drawn < resamples:
        size = min(max(1, AT_ONCE // number), resamples - drawn)
        draws = rng.multinomial(number, [1 / number] * number, size=size)
        with np.errstate(invalid="ignore"):
            found.append(np.tensordot(draws, sums, 1) / np.tensordot(draws, counts, 1))
        drawn += size
    return np.concatenate(found)


def nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    """As numpy's, without a warning where there is nothing to average."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis) / known.sum(axis)


def find_worst(cases: Sequence[CaseRecord], names: Sequence[str]) -> WorstResult | None:
    """The lowest Dice of all; of several missed structures the largest."""
    scored = [
        (case.measures[name]["Dice"], -case.measures[name]["truth_ml"], case.case, name, case)
        for case in cases
        for name in names
        if not math.isnan(case.measures[name].get("Dice", NAN))
    ]
    if not scored:
        return None
    value, _, _, name, case = min(scored, key=lambda entry: entry[:4])
    found = case.measures[name]
    predicted, true = volume(found["predicted_ml"]), volume(found["truth_ml"])
    note = f"The predicted volume is {predicted} ml, the true volume {true} ml."
    if found["status"] == "scored":
        note += f" 95 % of the two surfaces are within {found['hd95_mm']:.1f} mm of each other."
    return WorstResult(case.case, name, value, found["status"], note)


def lines(summary: Summary) -> list[str]:
    """The Dice of every class for a terminal: cases, misses, mean, its interval, spread and the worst case by name."""
    width = max(len(name) for name in (*summary.classes, "mean foreground"))
    shown = [
        f"{'Dice':<{width}} {'n':>4} {'missed':>7} {'mean':>7} {'95 % interval':>15} {'sd':>7} {'median':>7}   worst"
    ]
    for name, found in summary.classes.items():
        shown.append(line(name, width, found.n, found.missed, found.measures["Dice"]))
    total = sum(found.missed for found in summary.classes.values())
    shown.append(line("mean foreground", width, summary.foreground.n, total, summary.foreground))
    return shown


def line(name: str, width: int, n: int, missed: int, found: Statistics) -> str:
    between = f"{found.ci[0]:.4f}-{found.ci[1]:.4f}" if found.ci else "-"
    mean, spread, median = ("-" if math.isnan(v) else f"{v:.4f}" for v in (found.mean, found.sd, found.median))
    last = f"{found.worst['value']:.4f} {found.worst['case']}" if found.worst else "in the truth of no case"
    return f"{name:<{width}} {n:>4} {missed:>7} {mean:>7} {between:>15} {spread:>7} {median:>7}   {last}"
