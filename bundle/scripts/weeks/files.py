"""What the command writes: `weeks.json`, `weeks.csv`, `weeks.html` and `weeks.md`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from scripts.core.files import write_csv, write_json
from scripts.report.page import write_page
from scripts.weeks.compare import Weeks
from scripts.weeks.sections import LIMITS, weeks_page

SHIFTS = (
    "volume_ml",
    "change_ml",
    "change_percent",
    "left_mm",
    "back_mm",
    "head_mm",
    "surface_max_mm",
    "surface_p95_mm",
)


def write(weeks: Weeks, output_dir: str | Path) -> Path:
    """Writes the four files and returns the page's path."""
    folder = Path(output_dir)
    write_json(content(weeks), folder / "weeks.json")
    write_csv(table(weeks), folder / "weeks.csv")
    return write_page(weeks_page(weeks), folder, "weeks")


def content(weeks: Weeks) -> dict:
    """What `weeks.json` holds."""
    return {
        "use": LIMITS[0],
        "axes": "millimetres, positive towards the patient's left, back and head",
        **{key: getattr(weeks, key) for key in ("class_names", "organs", "about")},
        "problems": weeks.shown_problems,
        "one_scan": weeks.single,
        "population": {
            organ: {axis: asdict(found) for axis, found in axes.items()} for organ, axes in weeks.population.items()
        },
        "patients": [patient.to_dict() for patient in weeks.patients],
    }


def table(weeks: Weeks) -> Iterator[list]:
    """A row for every patient, scan and organ; an empty value where a figure is not defined."""
    fit = ["residual_mm", "matched"]
    yield ["patient", "scan", "time", "unit", "organ", *SHIFTS, "outside_5_mm", "outside_10_mm", *fit, "note"]
    for patient in weeks.patients:
        for scan in patient.scans:
            residual = [getattr(scan.bones, key, None) for key in fit]
            for organ, found in scan.organs.items():
                figures = [getattr(found, key) for key in SHIFTS]
                figures += [found.outside.get(key) for key in ("5_mm", "10_mm")] + residual
                shown = ["" if value is None else f"{value:.6g}" for value in figures]
                yield [patient.patient, scan.name, scan.time, patient.unit, organ, *shown, found.note]
