"""The sections of a report, each made by one function from the report alone.

To add a section, write a function that takes the report and returns a `Section`, or None where it has nothing to show,
and name it in `SECTIONS` at its place on the page.
"""

import math
from collections.abc import Sequence

from scripts.core.palette import colour
from scripts.report import figures, gallery, tables
from scripts.report.blocks import Box, Charts, Items, Legend, Link, Pairs, Pictures, Section, Text, present
from scripts.report.gallery import ALL_CLASSES
from scripts.report.schema import CaseRecord, Report
from scripts.report.strips import ERROR_COLOURS, doubt_legend
from scripts.report.tables import interval, number

DOUBT = "Chance that the label is wrong"
NO_INTERVAL = "no interval: too few patients"
SHOWN = 4  # files left out that are named at the top of the page


def headline(report: Report) -> list[tuple[str, str, str]]:
    """What a reader wants to know first: label, value and a note."""
    cases, classes = report.cases, report.summary.classes.values()
    patients = len({record.patient for record in cases})
    scans = ("Scans", str(len(cases)), f"of {patients} patient{'s' * (patients != 1)}")
    if not report.has_truth:
        warned = sum(bool(record.warnings) for record in cases)
        left_out = ("Files left out", str(report.left_out), "could not be used")
        return [scans, ("Scans with warnings", str(warned), "of the plausibility checks"), left_out]
    stats = report.summary.foreground
    mean, ci = (stats.mean, stats.ci) if stats else (math.nan, None)
    alarms, ml = sum(c.false_alarms for c in classes), sum(c.false_alarm_ml for c in classes if c.false_alarms)
    missed, n = sum(c.missed for c in classes), sum(c.n for c in classes)
    return [
        ("Mean Dice over the classes", number(mean), f"95 % interval {interval(ci)}" if ci else NO_INTERVAL),
        scans,
        ("Missed structures", str(missed), f"of {n} in the truth"),
        ("False alarms", str(alarms), f"{tables.volume(ml)} ml in total" if alarms else "none"),
    ]


def summary(report: Report) -> Section:
    """What to look at first; without truth also the warnings, which then are the result."""
    warned = not report.has_truth and any(record.warnings for record in report.cases)
    blocks = [left_out_box(report), first_box(report), tables.warning_table(report) if warned else None]
    return Section("summary", "", "Summary", present(blocks))


def left_out_box(report: Report) -> Box | None:
    count = report.left_out
    if not count:
        return None
    more = [Link(f"All {count} of them", "problems")] if len(report.problems) > SHOWN else []
    return Box(f"{count} file{'s' * (count > 1)} left out", [Items(report.problems[:SHOWN]), *more], "problem")


def first_box(report: Report) -> Box | None:
    """The worst result, or without truth the case with most warnings: words and a picture."""
    record, worst = gallery.first_case(report), report.summary.worst
    title, doubt = "Look at this first", [Legend(DOUBT, doubt_legend())] if report.looks else []
    if lowest := gallery.lowest_expected(report):
        blocks = [block for entry in lowest for block in expected_blocks(*entry)]
        return Box(title, [*blocks, *doubt])
    if record is None:
        return None
    if worst is None:
        strip = gallery.captioned(record, ALL_CLASSES, record.case)
        opening = Text(" has the most warnings. All warnings are in the table below.", record.case)
        return Box(title, [opening, *strip_blocks(strip, doubt)])
    name = worst.class_name if worst.class_name in record.pictures else ALL_CLASSES
    strip = gallery.captioned(record, name, f"{worst.case}, {worst.class_name}")
    place = gallery.place_words(vars(worst)) if worst.axis is not None else ""
    words = f": {'missed, ' * (worst.status == 'missed')}Dice {number(worst.value)}."
    words += f" See {place}. {worst.note}" if place else f" {worst.note}"
    errors = Legend("Errors", [kind for kind in ERROR_COLOURS.items() if not name or kind[0] != "wrong class"])
    blocks = [Text(words, f"{worst.class_name} in {worst.case}"), *strip_blocks(strip, [errors, *doubt])]
    if strip and strip["where"] != place:
        blocks.append(Pictures("", [], f"The pictures show {strip['where']}."))
    return Box(title, blocks)


def expected_blocks(record: CaseRecord, name: str) -> list:
    """What is expected of a class of a case, and the slice in which most of it is doubtful."""
    found = record.expected[name]
    words = f": expected Dice {number(found['dice'])} ({interval(found['dice_range'])})."
    words += f" Warnings: {'; '.join(record.warnings)}." if record.warnings else ""
    strip = gallery.captioned(record, name, f"{record.case}, {name}")
    words += f" The pictures show {strip['where']}, where most is doubtful." if strip else ""
    return [Text(words, f"{name} in {record.case}"), *strip_blocks(strip)]


def strip_blocks(strip: dict | None, legends: Sequence[Legend] = ()) -> list:
    return [Pictures("", [strip], captions=False), *legends] if strip else []


def about(report: Report) -> Section:
    heading = "What was evaluated" if report.has_truth else "What was segmented"
    return Section("about", heading, "About", [Pairs(report.about)])


def problems(report: Report) -> Section | None:
    """All files left out, where the top of the page does not name them all."""
    if len(report.problems) <= SHOWN:
        return None
    return Section("problems", "Files left out", "Left out", [Items(report.problems)])


def classes(report: Report) -> Section:
    if not report.has_truth:
        return Section("classes", "Volumes by class", "Classes", [tables.found_table(report)])
    shown = [tables.class_table(report), tables.measure_table(report)]
    return Section("classes", "Results by class", "Classes", shown)


def patients(report: Report) -> Section | None:
    if not report.has_truth:
        return None
    return Section("patients", "Results by patient", "Patients", [tables.patient_table(report)])


def volumes(report: Report) -> Section | None:
    if report.has_truth:
        return None
    return Section("volumes", "Volumes by case", "Cases", [tables.case_table(report)])


def expected(report: Report) -> Section | None:
    """What signs let expect of every case, and how that is to be read."""
    if not any(record.expected for record in report.cases):
        return None
    note = "Expected from the signs that several looks at an image give, and from what validation cases have taught. "
    note += "The ranges hold in nine of ten cases of the same kind. They say nothing of images of another kind, and "
    note += "what the network overlooks in every look has no sign."
    charts = [Charts(note, figures.expected(report))] if report.has_truth else [Text(note)]
    table = [] if report.has_truth else [tables.expected_table(report)]
    return Section("expected", "Expected Dice", "Expected Dice", [*charts, *table])


def probabilities(report: Report) -> Section | None:
    """Whether the probabilities of the looks were right."""
    if report.reliability is None:
        return None
    note = "Voxels of a class by the probability that it has there, against the share of them in which it is right. On "
    note += "the diagonal both are alike; below it the network is too sure. "
    plain = report.temperature == 1
    note += "" if plain else f"Grey: without the temperature of {report.temperature:g}, coloured: with it."
    blocks = [Charts(note, figures.reliability(report)), tables.reliability_table(report)]
    return Section("probabilities", "Calibration of the probabilities", "Probabilities", blocks)


def warnings(report: Report) -> Section | None:
    if not report.has_truth or not any(record.warnings for record in report.cases):
        return None
    return Section("warnings", "Warnings", "Warnings", [tables.warning_table(report)])


def points(report: Report) -> Section | None:
    if not report.has_truth:
        return None
    note = "Dice is above, the 95 % Hausdorff distance (HD95) below. Every point is a scan. " + (
        "Patients are in the order of their mean Dice in this class, the lowest at the left. The "
        "lowest scans have their names. "
        if figures.is_crowded(report)
        else "It is drawn above the name of its patient. "
    )
    note += "The line is the mean and the band its 95 % interval. A cross at Dice 0 and at the upper edge of the "
    note += "distances is a missed structure."
    return Section("points", "Every case", "Every case", [Charts(note, figures.points(report))])


def sizes(report: Report) -> Section | None:
    if not report.has_truth:
        return None
    note = "Every point is a scan. On the line both volumes are equal. A cross is a missed structure, a triangle a "
    charts = Charts(note + "false alarm.", figures.volumes(report))
    return Section("sizes", "Truth against predicted volume", "Volumes", [charts])


def weeks(report: Report) -> Section | None:
    drawn, note = figures.weeks(report)
    return Section("weeks", "Volumes over the weeks", "Weeks", [Charts(note, drawn)]) if drawn else None


def motion(report: Report) -> Section | None:
    found = report.motion
    if found is None:
        return None
    note = (
        "Shift of the centroid against the patient's first scan, after the bones were laid onto each other: positive "
    )
    note += "is towards the patient's left, back and head. Largest: the largest distance between the two surfaces. "
    note += (
        "Residual: the mean distance that the bones keep. python -m scripts.weeks --predictions DIR --output_dir DIR "
    )
    note += "makes a page with more: charts, the figures of all patients, and a margin."
    left_out = Box("Scans that could not be compared", [Items(found.problems)], "problem") if found.problems else None
    blocks = [Text(note), left_out, tables.motion_table(found) if found.rows else None]
    return Section("motion", "Motion of the organs relative to bone", "Motion", present(blocks))


def pictures(report: Report) -> Section | None:
    first, extreme = gallery.first_pictures(report), gallery.extreme_pictures(report)
    warned, more = gallery.warned_pictures(report)
    if not (first or extreme or warned):
        return None
    legend = [(name, colour(value)) for value, name in enumerate(report.class_names) if value]
    every = "Every case" if len(report.cases) <= len(first) else f"The first {len(first)} cases"
    note = f"{more} more cases with warnings are in the table above." if more else ""
    blocks = [
        Legend("Classes", legend),
        Legend("Errors", list(ERROR_COLOURS.items())) if report.has_truth else None,
        Legend(DOUBT, doubt_legend()) if report.looks else None,
        Pictures(every, first) if first else None,
        Pictures("Worst and best case of every class", extreme) if extreme else None,
        Pictures("Further cases with warnings", warned, note) if warned else None,
    ]
    return Section("pictures", "Pictures", "Pictures", present(blocks))


def training(report: Report) -> Section | None:
    if not report.has_truth or not report.history:  # without truth no number on the page is a score
        return None
    note = "Solid lines are the Dice of the validation, dashed lines that of the training."
    return Section("training", "Training", "Training", [Charts(note, figures.curves(report))])


def rules(report: Report) -> Section | None:
    return Section("rules", "How odd cases are counted", "Rules", [Items(report.rules)]) if report.rules else None


def limits(report: Report) -> Section | None:
    return Section("limits", "Limits", "Limits", [Items(report.limits)]) if report.limits else None


SECTIONS = (
    summary,
    about,
    problems,
    classes,
    patients,
    volumes,
    expected,
    warnings,
    points,
    sizes,
    probabilities,
    weeks,
    motion,
    pictures,
    training,
    rules,
    limits,
)
