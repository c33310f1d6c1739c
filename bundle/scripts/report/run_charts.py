"""Charts of a training's curves and of the differences between runs, as SVG text."""

import numpy as np
from scipy.optimize import isotonic_regression

from scripts.core.palette import colour
from scripts.report.svg import INK, blank, finite, shorten, styled, text_of, ticks

MARKERS = "os^Dvph"  # one for each class: not everyone can distinguish them by colour alone


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
        ends: list[tuple[float, str, str]] = []  # of the validation's lines: height, name, colour
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
        for y, (end, name, hue) in zip(keep_distance([end[0] for end in ends], 0.085), ends):
            note = {"xycoords": dice.get_yaxis_transform(), "textcoords": dice.get_yaxis_transform()}
            arrow = {"arrowstyle": "-", "color": hue, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
            dice.annotate(shorten(name, 12), (1.0, end), (1.05, y), va="center", arrowprops=arrow, **note)
        return text_of(figure)


def column(rows: list[dict], key: str) -> tuple[list[int], list[float]]:
    known = [(int(row["epoch"]), float(row[key])) for row in rows if row.get(key) not in ("", None)]
    return ([epoch for epoch, _ in known], [value for _, value in known]) if known else ([], [])


def keep_distance(heights: list[float], gap: float) -> np.ndarray:
    """Heights of labels, moved as little as possible so that there is a gap between any two. None goes below 0."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    moved = np.empty(len(heights))
    moved[order] = isotonic_regression(np.array(heights)[order] - steps).x + steps if len(heights) else 0
    return moved + max(0, -min(moved, default=0))


def differences(comparison: dict, run: int) -> str:
    """Dice of a run minus Dice of the first: per class every case a point, the mean and its interval.

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
        axis.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"Dice, {shorten(labels[run])} minus {shorten(labels[0])}")
        axis.grid(False, axis="y")
        axis.xaxis.set_major_locator(ticks(6))
        return text_of(figure)
