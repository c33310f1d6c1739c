"""Charts of cases as SVG text, small enough to be read unscaled on a phone."""

import math
from collections.abc import Sequence

import numpy as np

from scripts.report.schema import CaseRecord, Statistics
from scripts.report.svg import INK, LINE, SOFT, WIDTH, blank, finite, shorten, styled, text_of, ticks

MISSED = {"marker": "X", "color": "#8a2a0a", "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.6}
ALARM = {"marker": "^", "color": "none", "markersize": 7, "markeredgecolor": "#8a2a0a", "markeredgewidth": 1.3}
NAMED = 60  # patients that are named below a chart, every one or every few; with more, only the lowest scans are named
LOWEST = 4  # scans that are named where patients are not
PANELS = 24  # patients at most in the chart of the weeks


def points(cases: Sequence[CaseRecord], name: str, hue: str, measures: dict[str, Statistics]) -> str:
    """One class, every case with truth a point at its patient: Dice, and the Hausdorff distance below.

    Args:
        cases: records of the report.
        name: the class.
        hue: its colour.
        measures: its statistics, for the mean and its interval.
    """
    known = [record for record in cases if record.status(name) in ("scored", "missed")]
    patients = sorted({record.patient for record in known})
    crowded = len(patients) > NAMED
    if crowded:
        patients = by_mean_dice(known, name)
    with styled():
        figure = blank(3.9)
        dice, distance = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
        lowest = min((record.measures[name]["Dice"] for record in known), default=0)
        dice.set(ylabel="Dice", ylim=(0.48, 1.02) if lowest >= 0.5 else (-0.04, 1.04))
        distance.set(ylabel="HD95 (mm)")
        mean_band(dice, measures["Dice"], hue)
        mean_band(distance, measures["hd95_mm"], hue)
        places = dict(zip(map(id, known), positions(known, patients)))
        scored = [(places[id(r)], r.measures[name]) for r in known if r.status(name) == "scored"]
        missed = [places[id(r)] for r in known if r.status(name) == "missed"]
        for axis, key, gid in ((dice, "Dice", "dice"), (distance, "hd95_mm", "distance")):
            xs = [x for x, result in scored if finite(result[key])]
            ys = [result[key] for _, result in scored if finite(result[key])]
            axis.plot(xs, ys, "o", color=hue, mec=INK, gid=gid, **point_size(len(known)))
        highest = 1.06 * max(distance.get_ylim()[1], 1.0)  # leaves room for half a marker
        distance.set_ylim(-0.04 * highest, highest)
        dice.plot(missed, [0] * len(missed), linestyle="none", gid="dice-missed", **MISSED)
        top = distance.get_xaxis_transform()  # missed cases are on the upper edge, whatever the distances are
        distance.plot(missed, [1] * len(missed), ls="none", gid="missed", transform=top, clip_on=False, **MISSED)
        if crowded:
            ranked_axis(distance, len(patients))
            name_lowest(dice, [(places[id(r)], r.measures[name]["Dice"], r.case) for r in known], len(patients))
        else:
            patient_ticks(distance, patients)
        return text_of(figure)


def point_size(count: int) -> dict:
    """Of many points each is small and lets those below it shine through."""
    if count <= 80:
        return {"ms": 5, "mew": 0.4}
    return {"ms": 3.5, "mew": 0.4} if count <= 300 else {"ms": 3, "mew": 0, "alpha": 0.45}


def by_mean_dice(known: Sequence[CaseRecord], name: str) -> list[str]:
    """Patients from the lowest mean Dice of a class to the highest."""
    own: dict[str, list[float]] = {}
    for record in known:
        own.setdefault(record.patient, []).append(record.measures[name]["Dice"])
    return sorted(own, key=lambda patient: (np.mean(own[patient]), patient))


def positions(known: Sequence[CaseRecord], patients: Sequence[str]) -> list[float]:
    """Where each case is drawn: at its patient's number from 0, and beside each other where a patient has several."""
    number = {patient: position for position, patient in enumerate(patients)}
    scans: dict[str, list[int]] = {}
    for record in known:
        scans.setdefault(record.patient, []).append(id(record))
    found = []
    for record in known:
        own = scans[record.patient]
        found.append(number[record.patient] + 0.6 * (own.index(id(record)) + 0.5) / len(own) - 0.3)
    return found


def ranked_axis(axis, count: int) -> None:
    """Patients too many to be named: their rank."""
    axis.set_xlim(-0.02 * count, 1.02 * count)
    axis.xaxis.set_major_locator(ticks(6, integer=True))
    axis.set_xlabel(f"Rank of the {count} patients by mean Dice")


def name_lowest(axis, entries: list[tuple[float, float, str]], count: int) -> None:
    """Names of the lowest scans, each to the right of its point or below, where there are no other points."""
    ranked = sorted(entries, key=lambda entry: (entry[1], entry[2]))
    low, high = axis.get_ylim()
    gap = 0.075 * (high - low)
    above = ranked[LOWEST][1] if len(ranked) > LOWEST else high
    heights = []
    for _, y, _ in reversed(ranked[:LOWEST]):  # from the highest: below the points that have no name
        above = min(y, above - gap)
        heights.append(above)
    floors = [low + gap * (0.6 + position) for position in reversed(range(len(heights)))]
    for (x, y, case), height, floor in zip(reversed(ranked[:LOWEST]), heights, floors):
        place = min(x + 0.08 * count, 0.58 * count), max(height, floor)  # not below the axis
        arrow = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)}
        words = f"{shorten(case, 26)}  {y:.3f}"
        axis.annotate(words, (x, y), place, va="center", fontsize=7.5, arrowprops=arrow, annotation_clip=False)


def mean_band(axis, stats: Statistics, hue: str) -> None:
    if finite(stats.mean):
        axis.axhline(stats.mean, color=INK, linewidth=1, zorder=1.5, gid="mean")
        if stats.ci and all(map(finite, stats.ci)):
            axis.axhspan(*stats.ci, color=hue, alpha=0.25, linewidth=0, zorder=1, gid="interval")


def patient_ticks(axis, patients: list[str]) -> None:
    """Names of as many patients as can be read."""
    step = math.ceil(len(patients) / 24) or 1
    axis.set_xticks(range(0, len(patients), step), [shorten(p) for p in patients[::step]])
    if sum(len(shorten(patient)) + 2 for patient in patients) > 50:
        axis.tick_params(axis="x", labelrotation=90, labelsize=7.5)
    axis.set_xlim(-0.6, len(patients) - 0.4)
    for panel in axis.figure.axes:
        panel.grid(False, axis="x")
        for edge in range(1, len(patients)):
            panel.axvline(edge - 0.5, color=LINE, linewidth=0.6, zorder=0.5)
    axis.set_xlabel("Patient" if step == 1 else f"Patient (one name in {step})")


def volumes(cases: Sequence[CaseRecord], name: str, hue: str) -> str:
    """Truth against predicted volume, every case a point. Missed ones and false alarms are on the axes."""
    with styled():
        figure = blank(3.3)
        axis = figure.subplots()
        shown = {"scored": {"marker": "o", "color": hue, "mec": INK, **point_size(len(cases))}}
        shown |= {"missed": MISSED, "false alarm": ALARM}
        highest = 0.0
        axis.axline((0, 0), slope=1, color=SOFT, linewidth=1, gid="identity")
        for kind, style in shown.items():
            found = [r.measures[name] for r in cases if r.status(name) == kind]
            xs, ys = ([result[key] for result in found] for key in ("truth_ml", "predicted_ml"))
            axis.plot(xs, ys, ls="none", clip_on=False, zorder=3, gid=kind.replace(" ", "-"), **style)
            highest = max(highest, *xs, *ys, 0)
        highest = 1.06 * highest or 1
        axis.set(xlabel="Truth (ml)", ylabel="Predicted (ml)", xlim=(0, highest), ylim=(0, highest))
        axis.xaxis.set_major_locator(ticks(5))
        axis.yaxis.set_major_locator(ticks(5))
        axis.set_box_aspect(1)
        return text_of(figure)


def series_of_weeks(cases: Sequence[CaseRecord], name: str) -> dict[str, list[tuple[int, dict]]]:
    """By patient the week and the results of a class in every scan, for patients with several scans."""
    series: dict[str, list] = {}
    for record in cases:
        if record.week is not None and name in record.measures:
            series.setdefault(record.patient, []).append((record.week, record.measures[name]))
    return {p: sorted(own, key=lambda pair: pair[0]) for p, own in sorted(series.items()) if len(own) > 1}


def most_changed(series: dict[str, list[tuple[int, dict]]]) -> dict[str, list[tuple[int, dict]]]:
    """The patients whose volume changes most in millilitres, in the truth or without it in the prediction."""

    def change(patient: str) -> float:
        sizes = [result.get("truth_ml", result["predicted_ml"]) for _, result in series[patient]]
        known = [size for size in sizes if finite(size)]
        return max(known) - min(known) if known else 0.0

    chosen = sorted(series, key=lambda patient: (-change(patient), patient))[:PANELS]
    return {patient: series[patient] for patient in sorted(chosen)}


def weeks(series: dict[str, list[tuple[int, dict]]], hue: str) -> str:
    """Volumes of a class over the weeks, a panel for every patient.

    Args:
        series: of `series_of_weeks`, one patient or more.
        hue: colour of the class.
    """
    columns = min(3, len(series))
    rows = math.ceil(len(series) / columns)
    height = 0.65 + 1.1 * rows
    with styled():
        figure = blank(height, layout=None)  # the automatic layout of many panels takes seconds
        figure.subplots_adjust(0.74 / WIDTH, 0.42 / height, 1 - 0.08 / WIDTH, 1 - 0.23 / height, 0.12, 0.32)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel, (patient, own) in zip(panels, series.items()):
            panel.set_title(shorten(patient), fontsize=8, pad=3)
            lines = {"truth_ml": ("-o", "truth", INK), "predicted_ml": ("--s", "prediction", hue)}
            for key, (style, gid, line) in lines.items():
                known = [(week, result[key]) for week, result in own if finite(result.get(key))]
                if known:
                    panel.plot(*zip(*known), style, color=line, ms=3.5, lw=1.2, mec=INK, mew=0.3, gid=gid)
        for panel, above in zip(panels[len(series) :], panels[len(series) - columns :]):
            panel.set_visible(False)
            above.tick_params(axis="x", labelbottom=True)
        low, high = panels[0].get_ylim()
        panels[0].set_ylim(0 if low < 0.4 * high else low, high + 0.04 * (high - low))
        panels[0].xaxis.set_major_locator(ticks(4, integer=True))
        panels[0].yaxis.set_major_locator(ticks(4))
        figure.text(0.74 / WIDTH + 0.42, 0.06 / height, "Week", ha="center", va="bottom")
        figure.text(0.04 / WIDTH, 0.5, "Volume (ml)", rotation=90, ha="left", va="center")
        return text_of(figure)
