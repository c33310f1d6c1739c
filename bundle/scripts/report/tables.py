"""The tables of a report as data, the same for HTML and Markdown; and how numbers are written."""

import math
from dataclasses import dataclass, field, replace

from scripts.doubt.reliability import calibration_error
from scripts.report.measures import MEASURES
from scripts.report.schema import CaseRecord, ClassSummary, Motion, Report, Statistics

DASH = "–"
ML = 1  # decimals of a volume
ALL = "mean of the classes"
MOST_ROWS = 1000  # of a table on the page: a browser takes minutes to show a hundred thousand


@dataclass
class Table:
    """A table of text.

    Attributes:
        caption: what it shows.
        head: titles of the columns; the first column names the row.
        groups: pairs of a title, or None, and rows of text.
        text: columns that hold words; all others hold numbers and are aligned to the right.
        links: addresses that names of rows lead to, on the page only.
        short: whether it has the first rows only, as its caption says.
    """

    caption: str
    head: list[str]
    groups: list[tuple[str | None, list[list[str]]]]
    text: tuple[int, ...] = (0,)
    links: dict[str, str] = field(default_factory=dict)
    short: bool = False
    kind: str = field(default="table", init=False)


def number(value: float | None, decimals: int = 3) -> str:
    """A value with its decimals; a dash where it is not defined."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def interval(limits: list | None, decimals: int = 3) -> str:
    if limits is None or any(math.isnan(limit) for limit in limits):
        return DASH
    return f"{number(limits[0], decimals)} to {number(limits[1], decimals)}"


def decimals_of(size: float | None, decimals: int = ML) -> int:
    """As many decimals as it takes to see that a size is not 0, at least those given."""
    if size is None or not 1e-9 < abs(size) < 0.5 * 10**-decimals:
        return decimals
    return -math.floor(math.log10(abs(size)))


def volume(value: float | None) -> str:
    """In millilitres; less than 0.05 ml has more decimals, as 0.0 ml is what was not found."""
    return number(value, decimals_of(value))


def measure_title(measure: str, tolerance_mm: float) -> str:
    return MEASURES[measure].title.format(tolerance_mm=f"{tolerance_mm:g}")


def class_table(report: Report) -> Table:
    """Dice of every class with how often it was missed, absent or a false alarm."""
    summary = report.summary
    rows_of = [(name, found.measures["Dice"], found) for name, found in summary.classes.items()]
    rows_of += [(ALL, summary.foreground, None)] if summary.foreground else []
    naive = any(stats.ci_naive and stats.ci_naive != stats.ci for _, stats, _ in rows_of)
    head = ["Class", "Mean", "95 % interval, by patients", *["If scans were independent"] * naive, "SD", "Median"]
    head += ["Scans", "Missed", "Absent", "False alarms", "Worst case", "Its Dice"]
    rows = []
    for name, stats, found in rows_of:
        row = [name, number(stats.mean), interval(stats.ci), *[interval(stats.ci_naive)] * naive]
        row += [number(stats.sd), number(stats.median)]
        counts = [str(found.n), str(found.missed), str(found.absent), false_alarms(found)] if found else None
        rows.append([*row, *(counts or [str(stats.n), DASH, DASH, DASH]), *worst_case(stats)])
    return Table("Dice of every class", head, [(None, rows)], text=(0, len(head) - 2))


def false_alarms(found: ClassSummary) -> str:
    return f"{found.false_alarms} ({volume(found.false_alarm_ml)} ml)" if found.false_alarms else "0"


def worst_case(stats: Statistics, decimals: int = 3) -> list[str]:
    return [stats.worst["case"], number(stats.worst["value"], decimals)] if stats.worst else [DASH, DASH]


def measure_table(report: Report) -> Table:
    """The other measures, grouped by measure, with a row for each class."""
    groups = []
    for measure in MEASURES.values():
        rows = []
        for name, found in report.summary.classes.items():
            if measure.name == "Dice" or measure.name not in found.measures:
                continue
            stats = found.measures[measure.name]
            decimals = decimals_of(max(abs(stats.min), abs(stats.max)), measure.decimals)
            mean = f"{number(stats.mean, decimals)} ± {number(stats.sd, decimals)}" if stats.n else DASH
            limits = f"{number(stats.min, decimals)} to {number(stats.max, decimals)}" if stats.n else DASH
            row = [name, str(stats.n), str(found.missed), mean, interval(stats.ci, decimals)]
            row += [number(stats.median, decimals), limits]
            rows.append([*row, *([DASH, DASH] if measure.better == "neither" else worst_case(stats, decimals))])
        if rows:
            groups.append((measure_title(measure.name, report.tolerance_mm), rows))
    head = [
        "Class",
        "Scans",
        "Missed",
        "Mean ± SD",
        "95 % interval, by patients",
        "Median",
        "Range",
        "Worst case",
        "Its value",
    ]
    return Table("The other measures of every class", head, groups, text=(0, 7))


def patient_table(report: Report) -> Table:
    """Dice of every patient: over the scans, each the mean of its classes, and class by class."""
    names = list(report.summary.classes)
    rows = []
    for patient, found in report.summary.patients.items():
        row = [patient, *map(str, (found.scans, found.missed, found.absent))]
        row += [number(value) for value in (found.foreground, found.sd, found.median)]
        row += [number(found.classes[name]["mean"]) for name in names]
        lowest = min(
            ((of_class["worst"]["value"], name) for name, of_class in found.classes.items() if of_class["worst"]),
            default=None,
        )
        case = found.classes[lowest[1]]["worst"]["case"] if lowest else None
        rows.append([*row, f"{lowest[1]} {number(lowest[0])} in {case}" if lowest else DASH])
    head = ["Patient", "Scans", "Missed", "Absent", "Mean", "SD", "Median", *names, "Worst"]
    return long_table("Dice of every patient, all classes and each", head, rows, text=(0, len(head) - 1))


def found_table(report: Report) -> Table:
    """Without truth: how often every class was found, and how large it is."""
    rows = []
    for name, found in report.summary.classes.items():
        stats = found.measures["predicted_ml"]
        here = sum(record.status(name) == "predicted" for record in report.cases)
        sizes = [volume(value) for value in (stats.median, stats.min, stats.max)]
        rows.append([name, str(here), str(len(report.cases) - here), *sizes])
    head = ["Class", "Scans with it", "Scans without", "Median (ml)", "Smallest (ml)", "Largest (ml)"]
    return Table("Predicted volume of every class", head, [(None, rows)])


def case_table(report: Report) -> Table:
    """Without truth: the predicted volume of every class in every scan."""
    names = list(report.summary.classes)
    rows = []
    for record in report.cases:
        sizes = [volume(record.measures.get(name, {}).get("predicted_ml")) for name in names]
        rows.append([record.case, record.patient, week(record), *sizes])
    head = ["Case", "Patient", "Week", *(f"{name} (ml)" for name in names)]
    return replace(long_table("Predicted volumes of every case", head, rows, text=(0, 1)), links=report.views)


def expected_table(report: Report) -> Table:
    """Without truth: the expected Dice of every class in every scan, the lowest first, and the range of its volume."""
    found = [(one["dice"], record, name, one) for record in report.cases for name, one in record.expected.items()]
    rows = []
    for dice, record, name, one in sorted(found, key=lambda entry: (entry[0], entry[1].case, entry[2])):
        predicted, (low, high) = record.measures[name]["predicted_ml"], one["ml_range"]
        ranges = [interval(one["dice_range"]), volume(predicted), f"{volume(low)} to {volume(high)}"]
        rows.append([record.case, name, number(dice), *ranges])
    head = ["Case", "Class", "Expected Dice", "Its range", "Predicted (ml)", "Range of the true volume (ml)"]
    table = long_table("Expected Dice of every class in every case, the lowest first", head, rows, text=(0, 1))
    return replace(table, links=report.views)


def reliability_table(report: Report) -> Table:
    """The expected calibration error of every class."""
    sums, heated = report.reliability or {}, report.temperature != 1
    rows = []
    for name in report.summary.classes:
        errors = [calibration_error(sums, name), *[calibration_error(sums, name, report.temperature)] * heated]
        rows.append([name, *map(number, errors)])
    head = ["Class", "Without a temperature", *[f"At the temperature {report.temperature:g}"] * heated]
    return Table("Expected calibration error of the probabilities", head, [(None, rows)])


def motion_table(motion: Motion) -> Table:
    """How every organ moved in every scan but a patient's first one."""
    rows = []
    for *names, (change, left, back, head, largest, residual), note in motion.rows:
        distances = [number(size, 1) for size in (left, back, head, largest)]
        rows.append([*names, number(change, 0), *distances, number(residual, 2), note])
    head = ["Patient", "Scan", "Organ", "Volume change (%)", "Left (mm)", "Back (mm)", "Head (mm)", "Largest (mm)"]
    caption = "Against the first scan of the patient"
    return long_table(caption, [*head, "Residual (mm)", "Note"], rows, text=(0, 1, 2, 9))


def long_table(
    caption: str, head: list[str], rows: list[list[str]], text: tuple[int, ...], file: str = "metrics.json"
) -> Table:
    """A table that may have a row for every case or patient; where they are too many, of the first ones.

    Args:
        caption: see `Table`, as are `head` and `text`.
        head: likewise.
        rows: all of them.
        text: likewise.
        file: beside the page, with all of the rows.
    """
    short = len(rows) > MOST_ROWS
    if short:
        caption += f": the first {MOST_ROWS} of {len(rows)}, the others are in {file}"
    return Table(caption, head, [(None, rows[:MOST_ROWS])], text=text, short=short)


def week(record: CaseRecord) -> str:
    return DASH if record.week is None else str(record.week)


def warning_table(report: Report) -> Table:
    """What looked implausible, the cases with most warnings first."""
    warned = sorted((record for record in report.cases if record.warnings), key=lambda r: -len(r.warnings))
    rows = [[record.case, str(len(record.warnings)), "; ".join(record.warnings)] for record in warned]
    return long_table("Warnings of the plausibility checks", ["Case", "Warnings", "What was found"], rows, text=(0, 2))
