"""The picture that goes with a plan: what the data are like, and what was chosen."""

import math
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from scripts.check.nature import ONE_HAND
from scripts.core.files import atomic_write
from scripts.core.palette import colour
from scripts.plan.fingerprint import Fingerprint
from scripts.plan.settings import Plan

AXES = ("right", "front", "up")
LINE = 58  # characters
SHOWN = 230  # characters of a reason


def draw(found: Fingerprint, plan: Plan, file: Path) -> None:
    """Writes a PNG with the sizes of the images, where the classes lie, the hands, and the settings.

    Args:
        found: what the data are like.
        plan: what was chosen.
        file: to write.
    """
    figure = Figure(figsize=(14, 8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])
    (sizes, places), (hands, classes) = left.subplots(2, 2)
    draw_sizes(sizes, found)
    draw_places(places, found, plan)
    draw_hands(hands, found)
    draw_classes(classes, found)
    write_settings(right, plan)
    title = f"{len(found.images)} images of {found.patients} patients, {len(found.labels)} label maps"
    figure.suptitle(f"{title}: what they are like, and the settings chosen. Research use only.")
    with atomic_write(file) as partial:
        figure.savefig(partial, format="png", dpi=100)


def draw_sizes(axes, found: Fingerprint) -> None:
    """Voxels of every image along each axis, and their sides."""
    rng = np.random.default_rng(0)
    count = 2 if (found.shapes[:, 2] == 1).all() else 3  # of single pictures, or of volumes
    for axis in range(count):
        shift = axis + rng.uniform(-0.15, 0.15, len(found.images))
        axes.scatter(shift, found.shapes[:, axis], s=12, alpha=0.5, color=colour(axis + 1))
    names = [
        f"{name}\n{low:.3g} to {high:.3g} mm" if low < high else f"{name}\n{low:.3g} mm"
        for name, low, high in zip(AXES, found.spacings.min(axis=0), found.spacings.max(axis=0))
    ]
    axes.set_xticks(range(count), names[:count], fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_title("voxels along each axis, and their sides", fontsize=10)


def draw_places(axes, found: Fingerprint, plan: Plan) -> None:
    """How often any class is at a place, seen from the front, and what is kept of the images."""
    outlines = [sum((grid > 0).max(axis=2) for grid in places.values()) > 0 for places in found.places if places]
    axes.imshow(np.mean(outlines, axis=0).T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis", vmin=0, vmax=1)
    kept = plan.settings.get("kept_share", [1.0, 1.0])
    axes.add_patch(Rectangle((0.5 - kept[0] / 2, 0.5 - kept[1] / 2), kept[0], kept[1], fill=False, color="white", lw=2))
    axes.set(xlabel="left to right", ylabel="back to front")
    axes.set_title("share of the cases with a class there;\nframe: what is kept", fontsize=10)


def draw_hands(axes, found: Fingerprint) -> None:
    """How much more each case is like the others than like their mirror images."""
    for number, (name, values) in enumerate(found.hands.items()):
        axes.hist(values, bins=np.linspace(-0.5, 1.2, 35), alpha=0.6, color=colour(number + 1), label=name)
    axes.axvline(ONE_HAND, color="grey", ls="--", lw=1)
    axes.legend(fontsize=8)
    unknown = "some are, or symmetric" if found.enough_for_hand else "too few cases to tell"
    answer = "none" if found.one_hand else unknown
    axes.set_title(f"more like the others than like their\nmirror images: {answer}", fontsize=10)


def draw_classes(axes, found: Fingerprint) -> None:
    """The share of the voxels of each class."""
    names = list(found.shares)
    shares = [found.shares[name] for name in names]
    axes.barh(names, shares, color=[colour(found.class_names.index(n)) for n in names])
    first, last = math.floor(math.log10(min(shares))) - 1, math.ceil(math.log10(max(shares)))
    axes.set_xscale("log")
    axes.set_xlim(10.0**first, 10.0**last)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.invert_yaxis()
    axes.set_title("share of the voxels of each class (median)", fontsize=10)


def write_settings(figure, plan: Plan) -> None:
    """The settings that have a reason, one below the other."""
    lines: list[tuple[str, str]] = []
    for name, reason in plan.reasons.items():
        value = str(plan.settings[name])
        lines.append((f"{name} = {value}" if len(value) < LINE else name, "bold"))
        lines += [(line, "normal") for line in textwrap.wrap(textwrap.shorten(reason, SHOWN), LINE + 22)]
    for number, (line, weight) in enumerate(lines):
        place = 0.95 - 0.93 * number / max(len(lines), 40)
        figure.text(0.02, place, line, fontsize=7.5, weight=weight, va="top")
