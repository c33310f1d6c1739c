"""Figures of one look as SVG text: text stays text, and the same numbers give the same bytes."""

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

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
    """While this context lasts, figures have the common look; it must last until their text is made."""
    return rc_context(STYLE)


def blank(height: float, layout: str | None = "constrained") -> Figure:
    """A figure of the common width.

    Args:
        height: inches.
        layout: matplotlib's; None where the margins are set by hand.
    """
    return Figure(figsize=(WIDTH, height), layout=layout, facecolor="white")


def text_of(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]  # without the prolog, which names a DTD on the web
    return re.sub(r">\s+<", "><", text).replace(" \n", " ")  # a third shorter without matplotlib's line breaks
