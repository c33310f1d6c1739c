"""Charts as SVG text, small enough to be read unscaled on a phone."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from scripts.core.palette import colour
from scripts.report.svg import INK, LINE, SOFT, WIDTH, blank, styled, text_of

MARKERS = "os^Dvph"  # of the classes in a chart of several: colour alone does not tell them apart for everyone
MISSED = {"marker": "X", "color": "#8a2a0a", "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.6}
ALARM = {"marker": "^", "color": "none", "markersize": 7, "markeredgecolor": "#8a2a0a", "markeredgewidth": 1.3}


def points(cases: list[dict], name: str, hue: str, measures: dict) -> str:
    """One class, every case with truth a point above its patient: Dice, and the Hausdorff distance below.

    Args:
        cases: records of the report.
        name: the class.
        hue: its colour.
        measures: its statistics, for the mean and its interval.
    """
    known = [record for record in cases if status(record, name) in ("scored", "missed")]
    patients = sorted({record["patient"] for record in known})
    with styled():
        figure = blank(3.9)
        dice, distance = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
        lowest = min((r["measures"][name]["Dice"] for r in known), default=0)
        dice.set(ylabel="Dice", ylim=(0.48, 1.02) if lowest >= 0.5 else (-0.04, 1.04))
        distance.set(ylabel="HD95 (mm)")
        mean_band(dice, measures["Dice"], hue)
        mean_band(distance, measures["hd95_mm"], hue)
        at = {id(record): x for record, x in zip(known, places(known, patients))}
        scored = [(at[id(r)], r["measures"][name]) for r in known if status(r, name) == "scored"]
        missed = [at[id(r)] for r in known if status(r, name) == "missed"]
        size = 5 if len(known) <= 80 else 3.5
        for axis, key, gid in ((dice, "Dice", "dice"), (distance, "hd95_mm", "distance")):
            xs = [x for x, result in scored if finite(result[key])]
            ys = [result[key] for _, result in scored if finite(result[key])]
            axis.plot(xs, ys, "o", color=hue, ms=size, mec=INK, mew=0.4, gid=gid)
        highest = 1.06 * max(distance.get_ylim()[1], 1.0)  # room for half a marker
        distance.set_ylim(-0.04 * highest, highest)
        dice.plot(missed, [0] * len(missed), linestyle="none", gid="dice-missed", **MISSED)
        top = distance.get_xaxis_transform()  # on the upper edge, whatever the distances are
        distance.plot(missed, [1] * len(missed), ls="none", gid="missed", transform=top, clip_on=False, **MISSED)
        patient_ticks(distance, patients)
        return text_of(figure)


def places(known: list[dict], patients: list[str]) -> list[float]:
    """Where each case goes: its patient's number from 0, and beside each other where a patient has several."""
    scans = {patient: [r for r in known if r["patient"] == patient] for patient in patients}
    found = []
    for record in known:
        own = scans[record["patient"]]
        rank = next(i for i, other in enumerate(own) if other is record)
        found.append(patients.index(record["patient"]) + (0.6 * (rank + 0.5) / len(own) - 0.3))
    return found


def mean_band(axis, stats: dict, hue: str) -> None:
    if finite(stats["mean"]):
        axis.axhline(stats["mean"], color=INK, linewidth=1, zorder=1.5, gid="mean")
        if stats["ci"] and all(map(finite, stats["ci"])):
            axis.axhspan(*stats["ci"], color=hue, alpha=0.25, linewidth=0, zorder=1, gid="interval")


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


def volumes(cases: list[dict], name: str, hue: str) -> str:
    """Truth against predicted volume, every case a point; missed ones and false alarms lie on the axes."""
    with styled():
        figure = blank(3.3)
        axis = figure.subplots()
        shown = {"scored": {"marker": "o", "color": hue, "ms": 5, "mec": INK, "mew": 0.4}}
        shown |= {"missed": MISSED, "false alarm": ALARM}
        highest = 0.0
        axis.axline((0, 0), slope=1, color=SOFT, linewidth=1, gid="identity")
        for kind, style in shown.items():
            found = [r["measures"][name] for r in cases if status(r, name) == kind]
            pairs = [[0 if not finite(m[key]) else m[key] for key in ("truth_ml", "predicted_ml")] for m in found]
            xs, ys = zip(*pairs) if pairs else ((), ())
            axis.plot(xs, ys, ls="none", clip_on=False, zorder=3, gid=kind.replace(" ", "-"), **style)
            highest = max(highest, *xs, *ys, 0)
        highest = 1.06 * highest or 1
        axis.set(xlabel="Truth (ml)", ylabel="Predicted (ml)", xlim=(0, highest), ylim=(0, highest))
        axis.xaxis.set_major_locator(ticks(5))
        axis.yaxis.set_major_locator(ticks(5))
        axis.set_box_aspect(1)
        return text_of(figure)


def weeks(cases: list[dict], name: str, hue: str) -> str | None:
    """Volumes over the weeks, a panel for every patient with several scans; None where there is no such patient."""
    series: dict[str, list] = {}
    for record in cases:
        if record["week"] is not None and name in record["measures"]:
            series.setdefault(record["patient"], []).append((record["week"], record["measures"][name]))
    series = {p: sorted(own, key=lambda pair: pair[0]) for p, own in sorted(series.items()) if len(own) > 1}
    if not series:
        return None
    columns = min(3, len(series))
    rows = math.ceil(len(series) / columns)
    height = 0.65 + 1.1 * rows
    with styled():
        figure = blank(height, layout=None)  # finding the layout of forty panels takes seconds
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


def curves(rows: list[dict], class_names: list[str]) -> str:
    """Training loss, and Dice of every class: validation solid, training dashed.

    Args:
        rows: of history.csv, as text; a value that was not measured is empty.
        class_names: names of the values 0, 1, ...
    """
    with styled():
        figure = blank(4.4)
        loss, dice = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.7))
        loss.plot(*column(rows, "train_loss"), color=INK, linewidth=1.3, gid="loss")
        loss.set(ylabel="Training loss")
        ends = []
        for value, name in enumerate(class_names):
            if not value:
                continue
            style = {"color": colour(value), "marker": MARKERS[(value - 1) % len(MARKERS)], "ms": 4, "lw": 1.3}
            for side, line in (("train", "--"), ("val", "-")):
                xs, ys = column(rows, f"{side}_dice_{name}")
                style["markevery"] = max(1, len(xs) // 8)
                style["alpha"] = 0.6 if side == "train" else 1
                dice.plot(xs, ys, line, gid=f"{side}-{value}", **style)
                if ys and (side == "val" or not ends or ends[-1][1] != name):
                    ends = [end for end in ends if end[1] != name] + [(ys[-1], name, colour(value))]
        dice.set(ylabel="Dice", ylim=(0, 1.02), xlabel="Epoch")
        dice.xaxis.set_major_locator(ticks(6, integer=True))
        for y, (end, name, hue) in zip(apart([end[0] for end in ends], 0.085), ends):
            note = {"xycoords": dice.get_yaxis_transform(), "textcoords": dice.get_yaxis_transform()}
            arrow = {"arrowstyle": "-", "color": hue, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
            dice.annotate(shorten(name, 12), (1.0, end), (1.05, y), va="center", arrowprops=arrow, **note)
        return text_of(figure)


def column(rows: list[dict], key: str) -> tuple[list[int], list[float]]:
    known = [(int(row["epoch"]), float(row[key])) for row in rows if row.get(key) not in ("", None)]
    return ([epoch for epoch, _ in known], [value for _, value in known]) if known else ([], [])


def apart(heights: list[float], gap: float) -> np.ndarray:
    """The heights moved as little as leaves a gap between any two, their order kept, and none below 0."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    moved = np.empty(len(heights))
    moved[order] = isotonic_regression(np.array(heights)[order] - steps).x + steps if len(heights) else 0
    return moved + max(0, -min(moved, default=0))


def differences(comparison: dict, run: int) -> str:
    """Dice of a run less Dice of the first: per class every case a point, the mean and its interval.

    Args:
        comparison: the data of the page.
        run: number of the run, from 1.
    """
    names = list(comparison["measures"]["Dice"])
    labels = [entry["label"] for entry in comparison["runs"]]
    with styled():
        figure = blank(0.9 + 0.5 * len(names))
        axis = figure.subplots()
        axis.axvline(0, color=INK, linewidth=1)
        for row, name in enumerate(names):
            pairs = [case["values"][name] for case in comparison["cases"] if name in case["values"]]
            xs = [pair[run] - pair[0] for pair in pairs if finite(pair[run]) and finite(pair[0])]
            ys = row + np.random.default_rng(row).uniform(-0.28, 0.28, len(xs))
            hue = colour(comparison["class_names"].index(name))
            axis.plot(xs, ys, "o", color=hue, ms=3.5, alpha=0.7, mec=INK, mew=0.3, gid=f"cases-{row}")
            change = comparison["measures"]["Dice"][name]["differences"][run - 1]
            if change["ci"] and all(map(finite, change["ci"])):
                axis.plot(change["ci"], [row, row], color=INK, lw=2.2, solid_capstyle="butt", gid=f"interval-{row}")
            if finite(change["mean"]):
                axis.plot(change["mean"], row, "D", color="white", ms=6, mec=INK, mew=1.4, gid=f"mean-{row}")
        axis.set_yticks(range(len(names)), [shorten(name, 12) for name in names])
        axis.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"Dice, {shorten(labels[run])} less {shorten(labels[0])}")
        axis.grid(False, axis="y")
        axis.xaxis.set_major_locator(ticks(6))
        return text_of(figure)


def ticks(most: int, integer: bool = False) -> MaxNLocator:
    return MaxNLocator(most, integer=integer, steps=[1, 2, 2.5, 5, 10])


def status(record: dict, name: str) -> str | None:
    return record["measures"].get(name, {}).get("status")


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def shorten(text: str, most: int = 14) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
