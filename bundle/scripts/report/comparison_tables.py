"""The tables of a comparison as data."""

import math

from scripts.report.comparison import FEWEST
from scripts.report.measures import MEASURES
from scripts.report.tables import ALL, DASH, Table, decimals_of, interval, measure_title, number


def comparison_table(comparison: dict, measures: list[str], caption: str) -> Table:
    """Means of every run and the difference of each to the first, grouped by measure."""
    labels = [run["label"] for run in comparison["runs"]]
    groups = []
    for measure in measures:
        entries = dict(comparison["measures"][measure])
        if measure == "Dice" and comparison["foreground"]:
            entries[ALL] = comparison["foreground"]
        decimals = MEASURES[measure].decimals
        rows = []
        for name, entry in entries.items():
            for label, change in zip(labels[1:], entry["differences"]):
                means = [number(value, decimals) for value in (*change["means"], change["mean"])]
                counts = [str(change[key]) for key in ("better", "worse", "n", "patients")]
                limits = [shown_interval(change["ci"], decimals), verdict(change, measure)]
                rows.append([f"{name}, {label}" if len(labels) > 2 else name, *means, *limits, *counts])
        groups.append((measure_title(measure, comparison["tolerance_mm"]) if len(measures) > 1 else None, rows))
    pair = [labels[1], f"{labels[1]} minus {labels[0]}"] if len(labels) == 2 else ["of the run", "Difference"]
    head = [
        "Class" if len(labels) == 2 else "Class, run",
        f"Mean {labels[0]}",
        f"Mean {pair[0]}",
        pair[1],
        "95 % interval",
    ]
    head += ["Interval and 0", "Better", "Worse", "Scans", "Patients"]
    return Table(caption, head, groups, text=(0, 5))


def shown_interval(limits: list | None, decimals: int = 3) -> str:
    """An interval with as many decimals as it takes to see on which side of 0 it is."""
    nearest = min(map(abs, limits)) if limits and limits[0] * limits[1] > 0 else None
    return interval(limits, decimals_of(nearest, decimals))


def verdict(change: dict, measure: str) -> str:
    """In words whether the interval of a difference excludes 0, and what that means."""
    limits = change["ci"]
    if limits is None or any(math.isnan(limit) for limit in limits):
        return DASH
    if change["patients"] < FEWEST:
        return "too few patients"
    if limits[0] <= 0 <= limits[1]:
        return "includes 0"
    return "excludes 0: " + ("better" if (limits[0] > 0) != (MEASURES[measure].better == "less") else "worse")


def worse_table(comparison: dict, most: int = 30) -> Table:
    """The largest losses of Dice, at most that many."""
    runs = len(comparison["runs"]) > 2
    rows = [
        [entry["case"], *([entry["run"]] if runs else []), entry["class"]]
        + [number(entry[key]) for key in ("before", "after", "difference")]
        for entry in comparison["worse"][:most]
    ]
    head = ["Case", *(["Run"] if runs else []), "Class", "Dice before", "Dice after", "Difference"]
    return Table(
        "Dice of the baseline and after, the largest loss first",
        head,
        [(None, rows)],
        text=(0, 1, 2) if runs else (0, 1),
    )


def missed_table(comparison: dict) -> Table:
    """How often each run missed each class, and how often it found one that is not there."""
    groups = [
        (title, [[name, *map(str, counts)] for name, counts in comparison[key].items()])
        for title, key in (("Missed", "missed"), ("False alarms", "false_alarms"))
    ]
    head = ["Class", *(run["label"] for run in comparison["runs"])]
    return Table("Missed structures and false alarms of every run", head, groups)
