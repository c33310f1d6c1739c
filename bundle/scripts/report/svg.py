"""Figures in the same style, as SVG: words stay text, and the same numbers give the same bytes."""

import io
import math
import re

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH = 380 / 96  # inches; a CSS pixel is 1/96 of one
INK, SOFT, LINE = "#1b2530", "#55616d", "#d9dfe4"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "charts",
    "text.parse_math": False,  # a name may hold a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.formatter.use_mathtext": False,
}


def styled():
    """A context in which figures have the common style. Make them and their SVG within it."""
    return rc_context(STYLE)


def blank(height: float, layout: str | None = "constrained") -> Figure:
    """A figure of the common width.

    Args:
        height: inches.
        layout: matplotlib's; None where the margins are set by hand.
    """
    return Figure(figsize=(WIDTH, height), layout=layout, facecolor="white")


def text_of(figure: Figure) -> str:
    """The figure as SVG, made small: one style for the points of a group, and two decimals of a coordinate."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # without the prolog, which names a DTD on the web
    text = re.sub(r">\s+<", "><", text).replace(" \n", " ")  # without matplotlib's line breaks
    text = re.sub(r'(?<=\s)(?:x|y|d|transform)="[^"]*"', lambda found: rounded(found.group()), text)
    return re.sub(r"<g((?: [^>]*)?)>((?:<use [^>]*/>)+)</g>", share_style, text)


def rounded(attribute: str) -> str:
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", attribute)


def share_style(group: re.Match) -> str:
    """A group of points that all have the same style, which is then written once."""
    attributes, points = group.groups()
    styles = set(re.findall(r' style="[^"]*"', points))
    if len(styles) != 1 or " style=" in attributes or points.count(" style=") != points.count("<use "):
        return group.group()
    (style,) = styles
    return f"<g{attributes}{style}>{points.replace(style, '')}</g>"


def ticks(most: int, integer: bool = False) -> MaxNLocator:
    """Places of at most that many marks on an axis."""
    return MaxNLocator(most, integer=integer, steps=[1, 2, 2.5, 5, 10])


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def shorten(text: str, most: int = 14) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
