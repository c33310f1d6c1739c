"""The picture of a study: a panel for each knob, and in it a point for each run at its best validation mean Dice."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from scripts.core.files import atomic_write
from scripts.core.palette import COLOURS
from scripts.report.svg import INK, LINE, styled
from scripts.study.space import Knob, is_number
from scripts.study.table import cell_text

# Three colours of the palette. The shapes differ too, so that the points can be told apart without colours.
ORANGE, VERMILION, BLUE = COLOURS[0], COLOURS[4], COLOURS[5]
RUN = {"ls": "none", "marker": "o", "color": BLUE, "ms": 6.5, "alpha": 0.8, "mec": "white", "mew": 0.6}
BEST = {"ls": "none", "marker": "*", "color": ORANGE, "ms": 15, "mec": INK, "mew": 0.8}
FAILED = {"ls": "none", "marker": "X", "color": VERMILION, "ms": 7.5, "mec": "white", "mew": 0.6}
MEAN = {"color": INK, "lw": 2}
COLUMNS = 3
FEW = 12  # a range of at most this many numbers is drawn as a list
PANEL = (4.4, 3.2)  # inches
LABEL = 42  # characters of a value's label at most
ABREAST = 52  # characters that fit side by side below a panel
FLOOR = 0.04  # height of the failed runs, as a share of the panel


def draw_chart(found: list[dict], knobs: Sequence[Knob], file: Path, title: str) -> None:
    """Writes the picture.

    Args:
        found: rows of the study, from `table.result_rows`.
        knobs: the space; each knob gets a panel.
        file: the PNG file to write.
        title: name of the study.
    """
    scored = [row for row in found if row["score"] is not None]
    failed = [row for row in found if row["state"] == "failed"]
    best = max(scored, key=lambda row: row["score"], default=None)
    columns = min(COLUMNS, len(knobs))
    lines = math.ceil(len(knobs) / columns)
    with styled():
        size = (max(1.5, columns) * PANEL[0], lines * PANEL[1] + 1)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for axis in panels[len(knobs) :]:
            axis.set_visible(False)
        panels[0].set_ylim(*score_limits([row["score"] for row in scored]))
        for axis, knob in zip(panels, knobs):
            draw_panel(axis, knob, scored, failed, best)
        count = f"{len(scored)} run(s) with a score" + (f", {len(failed)} failed" if failed else "")
        top = f", the best {best['score']:.4f} (run {best['number']})" if best else ""
        figure.suptitle(f"{title}: {count}{top}", fontsize=11)
        figure.supylabel("best validation mean Dice", fontsize=9.5)
        handles = [Line2D([], [], label="run", **RUN), Line2D([], [], label="best run", **BEST)]
        if any(has_few_values(knob) for knob in knobs):
            handles.append(Line2D([], [], label="mean of a value", **MEAN))
        if failed:
            handles.append(Line2D([], [], label="failed run, no score", **FAILED))
        title = "Research use only: not for diagnosis or treatment"
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, title=title)
        with atomic_write(file) as partial:
            figure.savefig(partial, dpi=110, format="png")


def draw_panel(axis, knob: Knob, scored: list[dict], failed: list[dict], best: dict | None) -> None:
    """Draws the panel of one knob: the values of a list side by side with their means, a range as an axis."""
    at = (place_on_list if has_few_values(knob) else place_on_range)(axis, knob, scored, failed)
    axis.plot([at[row["number"]] for row in scored], [row["score"] for row in scored], gid="runs", **RUN)
    floor = axis.get_xaxis_transform()  # near the lower edge, whatever the scores are
    axis.plot([at[r["number"]] for r in failed], [FLOOR] * len(failed), gid="failed", transform=floor, **FAILED)
    if best:
        axis.plot([at[best["number"]]], [best["score"]], gid="best", zorder=4, **BEST)
    if failed:
        axis.add_patch(Rectangle((0, 0), 1, 2 * FLOOR, transform=axis.transAxes, color=LINE, lw=0, zorder=1.2))
    axis.set_title(knob.name, fontsize=10, fontweight="bold")
    axis.tick_params(axis="y", labelleft=True)


def has_few_values(knob: Knob) -> bool:
    """Returns whether the knob has so few values that they are drawn side by side."""
    return knob.values is not None or (knob.count is not None and knob.count <= FEW and not knob.span.log)


def is_same(value: Any, other: Any) -> bool:
    """Whether two values are one; a search draws 0.30000000000000004 where the list has 0.3."""
    if is_number(value) and is_number(other):
        return math.isclose(float(value), float(other), rel_tol=1e-9, abs_tol=1e-12)
    return value == other


def place_on_list(axis, knob: Knob, scored: list[dict], failed: list[dict]) -> dict[int, float]:
    """Returns the position of each run. Runs of the same value are side by side, in the order of their numbers."""
    values = list(knob.grid())
    if all(is_number(value) for value in values):
        values.sort()
    at: dict[int, float] = {}
    for place, value in enumerate(values):
        for rows in (scored, failed):
            own = [row for row in rows if is_same(row[knob.name], value)]
            at |= {row["number"]: place + 0.6 * ((i + 0.5) / len(own) - 0.5) for i, row in enumerate(own)}
        scores = [row["score"] for row in scored if is_same(row[knob.name], value)]
        if scores:
            mean = sum(scores) / len(scores)
            axis.plot([place - 0.36, place + 0.36], [mean, mean], zorder=1.5, gid="mean", **MEAN)
    names = value_labels(values)
    crowded = sum(max(map(len, name.splitlines())) + 2 for name in names) > ABREAST
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(range(len(values)), names, fontsize=8 if len(values) <= 10 else 6.5, **turned)
    axis.grid(False, axis="x")
    for edge in range(1, len(values)):
        axis.axvline(edge - 0.5, color=LINE, linewidth=0.6, zorder=0.5)
    axis.set_xlim(-0.6, len(values) - 0.4)
    return at


def place_on_range(axis, knob: Knob, scored: list[dict], failed: list[dict]) -> dict[int, float]:
    """Returns the position of each run on the axis of a range."""
    low, high = knob.span.low, knob.span.high
    if knob.span.log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.05
        axis.set_xlim(low / margin, high * margin)
    else:
        margin = 0.05 * (high - low)
        axis.set_xlim(low - margin, high + margin)
    return {row["number"]: row[knob.name] for row in scored + failed}


def value_labels(values: list) -> list[str]:
    """Returns short names of the values: the end of a long reference (if these ends differ), a long list in lines."""
    full = [cell_text(value, 10 * LABEL) for value in values]
    ends = [name.rsplit("::", 1)[-1] for name in full]
    names = ends if len(set(ends)) == len(full) else full
    fit = max(12, ABREAST // max(1, len(names)) - 2)
    breakable = [name.replace(",", ", ").replace("_", "_ ") for name in names]
    lines = [textwrap.wrap(name, fit, max_lines=3, placeholder=" ...") for name in breakable]
    return ["\n".join(line.replace("_ ", "_") for line in own) for own in lines]


def score_limits(scores: list[float]) -> tuple[float, float]:
    """Returns the limits of the axis, with room for the failed runs below the lowest score."""
    if not scores:
        return 0.0, 1.0
    margin = max(0.12 * (max(scores) - min(scores)), 0.01)
    return min(scores) - 1.8 * margin, max(scores) + margin
