"""Charts of what a result lets expect: expected against true Dice, and whether probabilities were right."""

from collections.abc import Sequence

from scripts.doubt import reliability
from scripts.report.charts import point_size
from scripts.report.svg import INK, LINE, SOFT, blank, styled, text_of


def expected(pairs: Sequence[tuple[dict, float]], hue: str) -> str:
    """Expected against true Dice of a class, every case a point with its range.

    Args:
        pairs: what is expected of each case, and its Dice.
        hue: colour of the class.
    """
    with styled():
        figure = blank(3.3)
        axis = figure.subplots()
        axis.axline((0, 0), slope=1, color=SOFT, linewidth=1, gid="identity")
        for found, true in pairs:
            axis.plot(found["dice_range"], [true, true], color=LINE, linewidth=1.4, zorder=1.5)
        xs, ys = [found["dice"] for found, _ in pairs], [true for _, true in pairs]
        axis.plot(xs, ys, "o", color=hue, mec=INK, gid="expected", **point_size(len(pairs)))
        lowest = min([1.0, *ys, *(found["dice_range"][0] for found, _ in pairs)])
        limits = max(0.0, lowest - 0.03), 1.01
        axis.set(xlabel="Expected Dice, and its range", ylabel="Dice", xlim=limits, ylim=limits)
        axis.set_box_aspect(1)
        return text_of(figure)


def probabilities(sums: dict, name: str, hue: str, temperature: float) -> str:
    """The share of the voxels of a class that is right, by their probability, without and with the temperature."""
    with styled():
        figure = blank(3.3)
        axis = figure.subplots()
        axis.axline((0, 0), slope=1, color=SOFT, linewidth=1, gid="identity")
        for at, style in {1.0: {"color": SOFT, "ls": "--"}, temperature: {"color": hue, "mec": INK}}.items():
            found = reliability.curve(sums, name, at)
            xs, ys = [given for given, *_ in found], [right for _, right, _ in found]
            axis.plot(xs, ys, marker="o", markersize=4, linewidth=1.4, gid=f"at-{at:g}", **style)
        axis.set(xlabel="Probability", ylabel="Share that is right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.set_box_aspect(1)
        return text_of(figure)
