"""The charts of a page, each with its caption and a text for those who can't see it."""

import base64
import math

from scripts.core.palette import colour
from scripts.doubt.reliability import calibration_error
from scripts.report import charts, doubt_charts, run_charts
from scripts.report.schema import Report
from scripts.report.tables import number, volume


def figure(svg: str, alt: str, caption: str) -> dict:
    """A chart as the templates draw it.

    Args:
        svg: its text.
        alt: what it shows, in words.
        caption: line above it.
    """
    return {"data": base64.b64encode(svg.encode()).decode(), "alt": alt, "caption": caption}


def coloured_classes(report: Report) -> list[tuple[str, str]]:
    """Name and colour of every foreground class."""
    return [(name, colour(value)) for value, name in enumerate(report.class_names) if value]


def is_crowded(report: Report) -> bool:
    """Whether there are too many patients to name them all below a chart."""
    return len({record.patient for record in report.cases}) > charts.NAMED


def points(report: Report) -> list[dict]:
    """Dice and Hausdorff distance of every scan, a chart for each class."""
    drawn = []
    for name, hue in coloured_classes(report):
        measures = report.summary.classes[name].measures
        dice, distance = measures["Dice"], measures["hd95_mm"]
        alt = f"{name}: {dice.n} scans, mean Dice {number(dice.mean)}, lowest {number(dice.min)}, "
        alt += f"mean 95 % Hausdorff distance {number(distance.mean, 2)} mm"
        chart = charts.points(report.cases, name, hue, measures)
        drawn.append(figure(chart, alt, name))
    return drawn


def volumes(report: Report) -> list[dict]:
    """Truth against predicted volume of every scan, a chart for each class."""
    drawn = []
    for name, hue in coloured_classes(report):
        measures = report.summary.classes[name].measures
        alt = f"{name}: mean volume {volume(measures['truth_ml'].mean)} ml in the truth, "
        alt += f"{volume(measures['predicted_ml'].mean)} ml predicted"
        drawn.append(figure(charts.volumes(report.cases, name, hue), alt, name))
    return drawn


def expected(report: Report) -> list[dict]:
    """Expected against true Dice of every scan, a chart for each class that has an expectation."""
    drawn = []
    for name, hue in coloured_classes(report):
        pairs = [(r.expected[name], r.measures[name]["Dice"]) for r in report.cases if name in r.expected]
        pairs = [(found, true) for found, true in pairs if math.isfinite(true)]
        if not pairs:
            continue
        held = sum(found["dice_range"][0] <= true <= found["dice_range"][1] for found, true in pairs)
        error = sum(abs(found["dice"] - true) for found, true in pairs) / len(pairs)
        words = f"{name}: mean distance {number(error)}, in the range {held} of {len(pairs)}"
        drawn.append(figure(doubt_charts.expected(pairs, hue), words, words))
    return drawn


def reliability(report: Report) -> list[dict]:
    """Whether probabilities were right, a chart for each class."""
    drawn = []
    for name, hue in coloured_classes(report):
        error = calibration_error(report.reliability, name, report.temperature)
        alt = f"{name}: expected calibration error {number(error)}"
        drawn.append(figure(doubt_charts.probabilities(report.reliability, name, hue, report.temperature), alt, name))
    return drawn


def weeks(report: Report) -> tuple[list[dict], str]:
    """Volumes over the weeks, a chart for each class, and a paragraph that says how to read them."""
    drawn, fewer = [], False
    for name, hue in coloured_classes(report):
        series = charts.series_of_weeks(report.cases, name)
        if not series:
            continue
        shown = charts.most_changed(series)
        sizes = report.summary.classes[name].measures["predicted_ml"]
        alt = f"{name}: predicted volume over the weeks of {len(shown)} patients; of all scans "
        alt += f"{volume(sizes.min)} to {volume(sizes.max)} ml"
        caption = name
        if len(shown) < len(series):
            fewer, caption = True, f"{name}: {len(shown)} of {len(series)} patients"
        drawn.append(figure(charts.weeks(shown, hue), alt, caption))
    note = "Solid lines with circles are the truth, dashed lines with squares the prediction. "
    note = note if report.has_truth else "The predicted volume. "
    if fewer:
        note += f"Every panel is a patient with several scans: the {charts.PANELS} whose volume changes most, in ml. "
        return drawn, note + "The volumes of all patients are in metrics.csv."
    return drawn, note + "Every panel is a patient with several scans."


def curves(report: Report) -> list[dict]:
    """Loss and Dice over the epochs of the training."""
    rows = report.history
    losses = [row["train_loss"] for row in rows if row["train_loss"]]  # epoch 0, before the training, has none
    alt = f"Training loss from {losses[0]} to {losses[-1]} in {len(losses)} epochs"
    return [figure(run_charts.curves(rows, report.class_names), alt, "Loss and Dice")]


def differences(comparison: dict) -> list[dict]:
    """Dice of each further run minus Dice of the first, a chart for each run."""
    base, *others = (run["label"] for run in comparison["runs"])
    entries = comparison["measures"]["Dice"].items()
    drawn = []
    for run, label in enumerate(others, start=1):
        means = "; ".join(f"{name} {number(entry['differences'][run - 1]['mean'])}" for name, entry in entries)
        alt = f"Dice of {label} minus Dice of {base}, every case a point, by class. {means}"
        drawn.append(figure(run_charts.differences(comparison, run), alt, f"{label} minus {base}"))
    return drawn
