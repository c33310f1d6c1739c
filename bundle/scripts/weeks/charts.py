"""The chart of one patient: where every organ lies over the scans, and how large it is."""

from collections.abc import Sequence

from scripts.report.svg import INK, SOFT, blank, styled, text_of, ticks
from scripts.weeks.motion import PatientMotion, ScanMotion
from scripts.weeks.population import AXES

MARKERS = "osD^vP*"
PANELS = {"left_mm": "Left (mm)", "back_mm": "Back (mm)", "head_mm": "Head (mm)", "volume_ml": "Volume (ml)"}


def chart(patient: PatientMotion, hues: dict[str, str], reach: dict[str, tuple[float, float]]) -> str:
    """Shifts along three axes and the volume, one below the other, as SVG text.

    Args:
        patient: two scans or more.
        hues: colour of every organ.
        reach: lowest and highest shift along every axis, the same for all patients, so that charts can be compared.
    """
    with styled():
        figure = blank(5.2)
        panels = figure.subplots(4, 1, sharex=True, height_ratios=(1, 1, 1, 1.3))
        for panel, (key, label) in zip(panels, PANELS.items(), strict=True):
            for (organ, hue), marker in zip(hues.items(), MARKERS * len(hues)):
                points = [(scan.time, value(scan, organ, key)) for scan in patient.scans]
                known = [point for point in points if point[1] is not None]
                if known:
                    gid = f"{organ}-{key}"
                    panel.plot(*zip(*known), marker=marker, color=hue, ms=4.5, lw=1.3, mec=INK, mew=0.4, gid=gid)
            panel.set_ylabel(label)
            panel.yaxis.set_major_locator(ticks(4))
            if key in AXES:
                panel.axhline(0, color=SOFT, linewidth=0.8, zorder=1)
                panel.set_ylim(*reach[key])
        panels[-1].set_ylim(0, 1.08 * max(panels[-1].get_ylim()[1], 1))
        panels[-1].xaxis.set_major_locator(ticks(8, integer=True))
        panels[-1].set_xlabel("Week" if patient.unit == "week" else "Days since the first scan")
        figure.align_ylabels(panels)
        return text_of(figure)


def value(scan: ScanMotion, organ: str, key: str) -> float | None:
    """A shift or the volume. The first scan has the shift 0."""
    found = scan.organs[organ]
    if key == "volume_ml" or scan.bones is not None:
        return getattr(found, key)
    return 0.0 if found.volume_ml else None


def common_reach(patients: Sequence[PatientMotion]) -> dict[str, tuple[float, float]]:
    """Lowest and highest shift along every axis, of all patients and organs, with some room."""
    moved = [organ for patient in patients for scan in patient.scans for organ in scan.organs.values()]
    found = {}
    for key in AXES:
        shifts = [0.0, *(shift for organ in moved if (shift := getattr(organ, key)) is not None)]
        low, high = min(*shifts, -1.0), max(*shifts, 1.0)
        found[key] = low - 0.1 * (high - low), high + 0.1 * (high - low)
    return found
