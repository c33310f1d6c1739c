"""The tables of a report as data, one definition for the page and for Markdown; and how numbers are written."""

import math
import re

DASH = "–"
DECIMALS = {"mm": 2, "ml": 1}  # by the unit a measure's name ends in; shares have three
MEASURES = {
    "Dice": "Dice",
    "IoU": "IoU",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "hd95_mm": "95 % Hausdorff distance (mm)",
    "mean_surface_distance_mm": "Mean surface distance (mm)",
    "surface_dice": "Surface Dice",
    "truth_ml": "Truth volume (ml)",
    "predicted_ml": "Predicted volume (ml)",
    "difference_ml": "Predicted less truth volume (ml)",
}
DISTANCES = ("hd95_mm", "mean_surface_distance_mm")  # less is better
NEUTRAL = ("truth_ml", "predicted_ml", "difference_ml")  # neither more nor less is better
ALL = "mean of the classes"


def number(value: float | None, measure: str = "Dice") -> str:
    """A value as its measure is written: shares with three decimals, mm with two, ml with one."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    decimals = DECIMALS.get(measure.rsplit("_", 1)[-1], 3)
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def interval(limits: list | None, measure: str = "Dice") -> str:
    if limits is None or any(math.isnan(limit) for limit in limits):
        return DASH
    return f"{number(limits[0], measure)} to {number(limits[1], measure)}"


def measure_title(measure: str, tolerance_mm: float | None = None) -> str:
    title = MEASURES.get(measure, measure)
    return f"{title} at {tolerance_mm:g} mm" if measure == "surface_dice" and tolerance_mm is not None else title


def table(caption: str, head: list[str], groups: list, text: tuple = (0,)) -> dict:
    """A table as data.

    Args:
        caption: what it shows.
        head: titles of the columns; the first column names the row.
        groups: pairs of a title, or None, and rows of text.
        text: columns that hold words; all others hold numbers and are set to the right.
    """
    return {"caption": caption, "head": head, "groups": groups, "text": text}


def per_class(content: dict) -> dict:
    """Dice of every class with how often it was missed, absent or a false alarm."""
    classes = content["classes"]
    dice = {name: found["measures"]["Dice"] for name, found in classes.items()}
    foreground = content["foreground"]
    shown = [*dice.values(), *([foreground] if foreground else [])]
    naive = any(stats["ci_naive"] and stats["ci_naive"] != stats["ci"] for stats in shown)
    head = ["Class", "Mean", "95 % interval, by patients", *["If scans were independent"] * naive, "SD", "Median"]
    head += ["Scans", "Missed", "Absent", "False alarms", "Worst case", "Its Dice"]
    rows = []
    for name, stats in [*dice.items(), *([(ALL, foreground)] if foreground else [])]:
        found = classes.get(name) if name in dice else None
        row = [name, number(stats["mean"]), interval(stats["ci"]), *[interval(stats["ci_naive"])] * naive]
        row += [number(stats[key]) for key in ("sd", "median")]
        counts = [str(found["n"]), str(found["missed"]), str(found["absent"]), alarms(found)] if found else None
        rows.append([*row, *(counts or [str(stats["n"]), DASH, DASH, DASH]), *worst(stats)])
    return table("Dice of every class", head, [(None, rows)], text=(0, len(head) - 2))


def alarms(found: dict) -> str:
    count = found["false_alarms"]
    return f"{count} ({number(found['false_alarm_ml'], '_ml')} ml)" if count else "0"


def worst(stats: dict, measure: str = "Dice") -> list[str]:
    found = stats["worst"]
    return [found["case"], number(found["value"], measure)] if found else [DASH, DASH]


def per_measure(content: dict) -> dict:
    """The other measures, grouped by measure, a row a class."""
    groups = []
    for measure in MEASURES:
        rows = []
        for name, found in content["classes"].items():
            if measure == "Dice" or measure not in found["measures"]:
                continue
            stats = found["measures"][measure]
            mean = f"{number(stats['mean'], measure)} ± {number(stats['sd'], measure)}"
            limits = f"{number(stats['min'], measure)} to {number(stats['max'], measure)}" if stats["n"] else DASH
            row = [name, str(stats["n"]), mean if stats["n"] else DASH, interval(stats["ci"], measure)]
            lowest = [DASH, DASH] if measure in ("truth_ml", "predicted_ml") else worst(stats, measure)
            rows.append([*row, number(stats["median"], measure), limits, *lowest])
        if rows:
            groups.append((measure_title(measure, content["tolerance_mm"]), rows))
    head = ["Class", "Scans", "Mean ± SD", "95 % interval, by patients", "Median", "Range", "Worst case", "Its value"]
    return table("The other measures of every class", head, groups, text=(0, 6))


def per_patient(content: dict) -> dict:
    """Dice of every patient: over the scans, each the mean of its classes, and class by class."""
    names = list(content["classes"])
    rows = []
    for patient, found in content["patients"].items():
        row = [patient, *(str(found[key]) for key in ("scans", "missed", "absent"))]
        row += [number(found[key]) for key in ("foreground", "sd", "median")]
        row += [number(found["classes"][name]["mean"]) for name in names]
        lowest = min(
            ((of_class["worst"]["value"], name) for name, of_class in found["classes"].items() if of_class["worst"]),
            default=None,
        )
        case = found["classes"][lowest[1]]["worst"]["case"] if lowest else None
        rows.append([*row, f"{lowest[1]} {number(lowest[0])} in {case}" if lowest else DASH])
    head = ["Patient", "Scans", "Missed", "Absent", "Mean", "SD", "Median", *names, "Worst"]
    return table("Dice of every patient, all classes and each", head, [(None, rows)], text=(0, len(head) - 1))


def found_volumes(content: dict) -> dict:
    """Without truth: how often every class was found, and how large it is."""
    rows = []
    for name, found in content["classes"].items():
        stats = found["measures"]["predicted_ml"]
        here = sum(record["measures"].get(name, {}).get("status") == "predicted" for record in content["cases"])
        sizes = [number(stats[key], "predicted_ml") for key in ("median", "min", "max")]
        rows.append([name, str(here), str(len(content["cases"]) - here), *sizes])
    head = ["Class", "Scans with it", "Scans without", "Median (ml)", "Smallest (ml)", "Largest (ml)"]
    return table("Predicted volume of every class", head, [(None, rows)])


def case_volumes(content: dict) -> dict:
    """Without truth: the predicted volume of every class in every scan."""
    names = list(content["classes"])
    rows = []
    for record in content["cases"]:
        sizes = [number(record["measures"].get(name, {}).get("predicted_ml"), "predicted_ml") for name in names]
        rows.append([record["case"], record["patient"], week(record), *sizes])
    head = ["Case", "Patient", "Week", *(f"{name} (ml)" for name in names)]
    return table("Predicted volumes of every case", head, [(None, rows)], text=(0, 1))


def week(record: dict) -> str:
    return DASH if record["week"] is None else str(record["week"])


def warnings(content: dict) -> dict:
    """What looked implausible, the cases with most warnings first."""
    told = sorted((record for record in content["cases"] if record["warnings"]), key=lambda r: -len(r["warnings"]))
    rows = [[record["case"], str(len(record["warnings"])), "; ".join(record["warnings"])] for record in told]
    return table("Warnings of the plausibility checks", ["Case", "Warnings", "What was found"], [(None, rows)], (0, 2))


def compared(comparison: dict, measures: list[str], caption: str) -> dict:
    """Means of every run and the difference of each to the first, grouped by measure."""
    labels = [run["label"] for run in comparison["runs"]]
    groups = []
    for measure in measures:
        entries = dict(comparison["measures"][measure])
        if measure == "Dice" and comparison["foreground"]:
            entries[ALL] = comparison["foreground"]
        rows = []
        for name, entry in entries.items():
            for label, mean, change in zip(labels[1:], entry["means"][1:], entry["differences"]):
                means = [number(entry["means"][0], measure), number(mean, measure), number(change["mean"], measure)]
                counts = [str(change[key]) for key in ("better", "worse", "n", "patients")]
                limits = [interval(change["ci"], measure), verdict(change, measure)]
                rows.append([f"{name}, {label}" if len(labels) > 2 else name, *means, *limits, *counts])
        groups.append((measure_title(measure, comparison.get("tolerance_mm")) if len(measures) > 1 else None, rows))
    pair = [labels[1], f"{labels[1]} less {labels[0]}"] if len(labels) == 2 else ["of the run", "Difference"]
    head = [
        "Class" if len(labels) == 2 else "Class, run",
        f"Mean {labels[0]}",
        f"Mean {pair[0]}",
        pair[1],
        "95 % interval",
    ]
    head += ["Interval and 0", "Better", "Worse", "Scans", "Patients"]
    return table(caption, head, groups, text=(0, 5))


def verdict(change: dict, measure: str) -> str:
    """In words whether the interval of a difference excludes 0, and what that means."""
    limits = change["ci"]
    if limits is None or any(math.isnan(limit) for limit in limits):
        return DASH
    if limits[0] <= 0 <= limits[1]:
        return "includes 0"
    if measure in NEUTRAL:
        return "excludes 0: " + ("larger" if limits[0] > 0 else "smaller")
    return "excludes 0: " + ("better" if (limits[0] > 0) != (measure in DISTANCES) else "worse")


def got_worse(comparison: dict, most: int = 30) -> dict:
    runs = len(comparison["runs"]) > 2
    rows = [
        [entry["case"], *([entry["run"]] if runs else []), entry["class"]]
        + [number(entry[key]) for key in ("before", "after", "difference")]
        for entry in comparison["worse"][:most]
    ]
    head = ["Case", *(["Run"] if runs else []), "Class", "Dice before", "Dice after", "Difference"]
    return table(
        "Dice of the baseline and after, the largest loss first",
        head,
        [(None, rows)],
        text=(0, 1, 2) if runs else (0, 1),
    )


def missed_counts(comparison: dict) -> dict:
    rows = [[name, *map(str, counts)] for name, counts in comparison["missed"].items()]
    head = ["Class", *(run["label"] for run in comparison["runs"])]
    return table("Missed structures of every run", head, [(None, rows)])


def markdown_text(value: object) -> str:
    """Text that GitHub shows as it is, whatever a file is called: no table, link, emphasis or HTML comes of it."""
    text = " ".join(str(value).split())
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text.replace("&", "&amp;"))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text.replace("<", "&lt;").replace(">", "&gt;"))


def markdown_table(data: dict) -> str:
    """A table in GitHub's Markdown, its columns aligned so that a terminal shows it well too."""
    head = [markdown_text(title) for title in data["head"]]
    rows = []
    for title, group in data["groups"]:
        if title:
            rows.append([f"**{markdown_text(title)}**"] + [""] * (len(head) - 1))
        rows += [[markdown_text(value) for value in row] for row in group]
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    words = [i in data["text"] for i in range(len(head))]
    rule = ["-" * width if word else "-" * (width - 1) + ":" for width, word in zip(widths, words)]
    lines = [
        "| " + " | ".join(v.ljust(w) if word else v.rjust(w) for v, w, word in zip(row, widths, words)) + " |"
        for row in [head, rule, *rows]
    ]
    return "\n".join(lines)
