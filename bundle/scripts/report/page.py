"""Reports and comparisons as self-contained pages and as Markdown, from plain data."""

import base64
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.core.palette import colour
from scripts.report import charts, tables
from scripts.report.gallery import look_first, report_pictures
from scripts.report.tables import interval, number

# Of a report by anchor, in the order of the page: heading, and what the contents call it.
SECTIONS = {
    "summary": ("Summary", "Summary"),
    "about": ("What was evaluated", "About"),
    "problems": ("Files left out", "Left out"),
    "classes": ("Results by class", "Classes"),
    "patients": ("Results by patient", "Patients"),
    "volumes": ("Volumes by case", "Cases"),
    "warnings": ("Warnings", "Warnings"),
    "points": ("Every case", "Every case"),
    "sizes": ("Truth against predicted volume", "Volumes"),
    "weeks": ("Volumes over the weeks", "Weeks"),
    "pictures": ("Pictures", "Pictures"),
    "training": ("Training", "Training"),
    "rules": ("How odd cases are counted", "Rules"),
    "limits": ("Limits", "Limits"),
}
COMPARISON = {
    "summary": ("Runs", "Runs"),
    "dice": ("Dice", "Dice"),
    "differences": ("Difference of every case", "Every case"),
    "worse": ("Cases that got worse", "Got worse"),
    "missed": ("Missed structures", "Missed"),
    "measures": ("Other measures", "Other measures"),
    "rules": ("How to read this", "Rules"),
}
NO_INTERVAL = "no interval: too few patients"
SHOWN = 4  # files left out that the first screen names

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=lambda name: name is not None and name.endswith(".html"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.globals["shown"] = SHOWN
environment.filters |= {"text": tables.markdown_text, "table": tables.markdown_table}


def report_html(content: dict) -> str:
    """One page without scripts or references to other files: figures, tables, charts and pictures."""
    view = report_tables(content) | report_charts(content) | report_pictures(content)
    sections = [(anchor, *names) for anchor, names in titles(content).items() if filled(anchor, content, view)]
    first = look_first(content)
    return render("report.html", content, headline=headline(content), first=first, sections=sections, **view)


def report_markdown(content: dict) -> str:
    """The same figures and tables as text."""
    names = {anchor: heading for anchor, (heading, _) in titles(content).items()}
    view = report_tables(content) | {"section_names": names, "first": look_first(content)}
    return render("report.md", content, headline=headline(content), **view)


def comparison_html(comparison: dict) -> str:
    """The page that compares runs over the same cases; the first run is what the others are held against."""
    drawn = [
        figure(
            charts.differences(comparison, run),
            f"Dice of {label} less Dice of {comparison['runs'][0]['label']}, every case a point, by class. "
            + difference_words(comparison, run),
            f"{label} less {comparison['runs'][0]['label']}",
        )
        for run, label in enumerate((run["label"] for run in comparison["runs"][1:]), start=1)
    ]
    return render("comparison.html", comparison, charts=drawn, **comparison_tables(comparison))


def comparison_markdown(comparison: dict) -> str:
    return render("comparison.md", comparison, **comparison_tables(comparison))


def render(template: str, content: dict, **view) -> str:
    return environment.get_template(template).render(**content, **view).rstrip() + "\n"


def titles(content: dict) -> dict[str, tuple[str, str]]:
    other = {"about": ("What was segmented", "About"), "classes": ("Volumes by class", "Classes")}
    return SECTIONS if content["has_truth"] else SECTIONS | other


def filled(anchor: str, content: dict, view: dict) -> bool:
    """Whether the section has anything to show."""
    shown = {
        "problems": len(content["problems"]) > SHOWN,
        "patients": view["patient_table"],
        "volumes": view["case_table"],
        "warnings": view["warning_table"] and content["has_truth"],  # without truth they come first
        "points": view["charts"]["points"],
        "sizes": view["charts"]["volumes"],
        "weeks": view["charts"]["weeks"],
        "pictures": view["first_strips"] or view["extreme_strips"] or view["warned_strips"],
        "training": view["charts"]["curves"],
        "rules": content["rules"],
        "limits": content["limits"],
    }
    return bool(shown.get(anchor, True))


def report_tables(content: dict) -> dict:
    warned = tables.warnings(content) if any(record["warnings"] for record in content["cases"]) else None
    if not content["has_truth"]:
        made = {"class_table": tables.found_volumes(content), "case_table": tables.case_volumes(content)}
        return made | {"warning_table": warned, "measure_table": None, "patient_table": None}
    made = {"class_table": tables.per_class(content), "measure_table": tables.per_measure(content)}
    return made | {"patient_table": tables.per_patient(content), "warning_table": warned, "case_table": None}


def comparison_tables(comparison: dict, most: int = 30) -> dict:
    others = [measure for measure in comparison["measures"] if measure != "Dice"]
    empty = {"worse": not comparison["worse"], "measures": not others, "rules": not comparison["rules"]}
    return {
        "sections": [(anchor, *names) for anchor, names in COMPARISON.items() if not empty.get(anchor)],
        "dice_table": tables.compared(comparison, ["Dice"], "Dice of every class"),
        "measure_table": tables.compared(comparison, others, "The other measures of every class") if others else None,
        "worse_table": tables.got_worse(comparison, most) if comparison["worse"] else None,
        "more_worse": max(0, len(comparison["worse"]) - most),
        "missed_table": tables.missed_counts(comparison),
        "headline": changes(comparison),
    }


def changes(comparison: dict) -> list[tuple[str, str, str]]:
    """By how much every further run differs from the first: label, value and a note."""
    base, *others = (run["label"] for run in comparison["runs"])
    told = []
    for label, change in zip(others, comparison["foreground"]["differences"]):
        note = (
            f"95 % interval {interval(change['ci'])}, {tables.verdict(change, 'Dice')}" if change["ci"] else NO_INTERVAL
        )
        told.append((f"Mean Dice, {label} less {base}", number(change["mean"]), note))
        worse = sum(entry["run"] == label for entry in comparison["worse"])
        told.append((f"Got worse in {label}", str(worse), "results of a class in a case"))
    return told


def headline(content: dict) -> list[tuple[str, str, str]]:
    """What a reader wants to know first: label, value and a note."""
    cases, classes = content["cases"], content["classes"].values()
    patients = len({record["patient"] for record in cases})
    scans = ("Scans", str(len(cases)), f"of {patients} patient{'s' * (patients != 1)}")
    if not content["has_truth"]:
        warned = sum(bool(record["warnings"]) for record in cases)
        left = ("Files left out", str(len(content["problems"])), "could not be used")
        return [scans, ("Scans with warnings", str(warned), "of the plausibility checks"), left]
    mean = content["foreground"] or {"mean": math.nan, "ci": None}
    note = f"95 % interval {interval(mean['ci'])}" if mean["ci"] else NO_INTERVAL
    alarms, ml = sum(c["false_alarms"] for c in classes), sum(c["false_alarm_ml"] for c in classes if c["false_alarms"])
    return [
        ("Mean Dice over the classes", number(mean["mean"]), note),
        scans,
        (
            "Missed structures",
            str(sum(c["missed"] for c in classes)),
            f"of {sum(c['n'] for c in classes)} in the truth",
        ),
        ("False alarms", str(alarms), f"{number(ml, '_ml')} ml in all" if alarms else "no structure invented"),
    ]


def figure(svg: str, alt: str, caption: str) -> dict:
    return {"data": base64.b64encode(svg.encode()).decode(), "alt": alt, "caption": caption}


def report_charts(content: dict) -> dict:
    cases, drawn = content["cases"], {"points": [], "volumes": [], "weeks": [], "curves": []}
    for value, name in enumerate(content["class_names"]):
        if not value:
            continue
        measures = content["classes"][name]["measures"]
        sizes = measures["predicted_ml"]
        if content["has_truth"]:
            dice, distance = measures["Dice"], measures["hd95_mm"]
            told = f"{name}: {dice['n']} scans, mean Dice {number(dice['mean'])}, lowest {number(dice['min'])}"
            told += f", mean 95 % Hausdorff distance {number(distance['mean'], 'mm')} mm"
            drawn["points"].append(figure(charts.points(cases, name, colour(value), measures), told, name))
            told = f"{name}: mean volume {number(measures['truth_ml']['mean'], 'ml')} ml in the truth"
            told += f", {number(sizes['mean'], 'ml')} ml predicted"
            drawn["volumes"].append(figure(charts.volumes(cases, name, colour(value)), told, name))
        if (chart := charts.weeks(cases, name, colour(value))) is not None:
            told = f"{name}: predicted volume over the weeks of every patient, {number(sizes['min'], 'ml')}"
            drawn["weeks"].append(figure(chart, f"{told} to {number(sizes['max'], 'ml')} ml", name))
    rows = content["history"]
    if rows and content["has_truth"]:  # without truth nothing on the page is a score
        told = f"Training loss from {rows[0]['train_loss']} to {rows[-1]['train_loss']} in {len(rows)} epochs"
        drawn["curves"].append(figure(charts.curves(rows, content["class_names"]), told, "Loss and Dice"))
    return {"charts": drawn}


def difference_words(comparison: dict, run: int) -> str:
    entries = comparison["measures"]["Dice"]
    return "; ".join(f"{name} {number(entry['differences'][run - 1]['mean'])}" for name, entry in entries.items())
