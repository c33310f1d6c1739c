"""The four files of a report, with truth or without: `metrics.csv`, `metrics.json`, `report.html`, `report.md`."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import write_csv, write_json
from scripts.data.anonymise import secret_word
from scripts.doubt import reliability
from scripts.report import page
from scripts.report.gallery import add_pictures
from scripts.report.measures import COUNTS, MEASURES, RULES
from scripts.report.records import anonymous
from scripts.report.schema import CaseRecord, Motion, Report
from scripts.report.summary import summarise

METRICS, TABLE, PAGE = "metrics.json", "metrics.csv", "report"  # the page is there twice
FILES = (METRICS, TABLE, f"{PAGE}.html", f"{PAGE}.md")
PRIVATE = ("Input", "Data list", "Truth", "Prediction")  # paths, which may hold names
LIMITS = (
    "Research use only: not a medical device, not for diagnosis, treatment or any clinical decision.",
    "The figures hold for images like these: from the same scanners, and with a truth drawn by the same people.",
    "Intervals are percentile bootstraps over patients. With fewer than about ten patients they are too narrow.",
    "Best and worst cases are chosen by Dice, which is low for small structures and high for large ones.",
)


def build(
    records: Sequence[CaseRecord],
    class_names: Sequence[str],
    origin: list[list[str]],
    *,
    has_truth: bool = True,
    tolerance_mm: float = 2.0,
    problems: Sequence[str] = (),
    history: str | Path | None = None,
    motion: Motion | None = None,
    trained_on: str = "",
    anonymise: bool | str | None = False,
    draw: Callable[[CaseRecord, str], dict] | None = None,
    looks: str = "",
    temperature: float = 1.0,
) -> Report:
    """The report: all that the page says.

    Args:
        records: of `scripts.report.records.measure_case`, in any order.
        class_names: names of the values 0, 1, ...
        origin: pairs of a label and a text that say what was evaluated.
        has_truth: False for a page of volumes and warnings.
        tolerance_mm: of the surface Dice.
        problems: a line for every file that was left out.
        history: `history.csv` of the training, where there is one.
        motion: of organs between the scans of a patient; its names are already codes where names are to be codes.
        trained_on: what the model was trained on, for the limits.
        anonymise: True or a secret word: codes in place of the names of cases and patients.
        draw: gives the picture of a class ("" is all classes) of one of `records`, for the few pictures that the
            page shows; None where records have their pictures.
        looks: what the looks at an image differed in, or "" where only one was taken.
        temperature: of the probabilities of the looks.
    """
    word, hidden = secret_word(anonymise), 0
    given = {record.case: record for record in records}
    if word is not None:
        coded = [anonymous(record, word) for record in records]
        given = {code.case: record for code, record in zip(coded, records)}
        if len(given) < len(records):
            raise UserError("anonymise: two cases have the same code; choose another word, --anonymise WORD")
        records = coded
        origin = [[label, "not shown" if label in PRIVATE else text] for label, text in origin]
        hidden = len(problems)
        problems = [f"{len(problems)} file(s); their names were printed when this was made"] if problems else []
    records = sorted(records, key=lambda record: record.case)
    rules = [*RULES, f"Surface Dice: the share of both surfaces that is within {tolerance_mm:g} mm of the other one."]
    limits = [*LIMITS] if has_truth else [LIMITS[0], "There is no truth here: no number on this page is a score."]
    report = Report(
        title="Evaluation" if has_truth else "Segmentation",
        has_truth=has_truth,
        about=origin,
        class_names=list(class_names),
        tolerance_mm=tolerance_mm,
        cases=records,
        summary=summarise(records, class_names),
        problems=list(problems),
        hidden=hidden,
        rules=rules if has_truth else [],
        limits=[*limits, f"Trained on: {trained_on}."] if trained_on else limits,
        history=read_history(history),
        motion=motion,
        looks=looks,
        temperature=temperature,
        reliability=reliability.add([record.reliability for record in records if record.reliability]),
    )
    add_pictures(report, draw and (lambda record, name: draw(given[record.case], name)))
    return report


def read_history(file: str | Path | None) -> list[dict] | None:
    if file is None or not Path(file).is_file():
        return None
    with Path(file).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return rows if any(row["train_loss"] for row in rows) else None  # before the first epoch there is nothing to show


def write(report: Report, output_dir: str | Path) -> Path:
    """Writes the four files and returns the page's path."""
    folder = Path(output_dir)
    write_json(metrics(report), folder / METRICS)
    write_csv(table(report), folder / TABLE)
    return page.write_page(page.report_page(report), folder, PAGE)


def table(report: Report) -> Iterator[list]:
    """A row per case, class and measure; an empty value where the measure is not defined."""
    yield ["case", "patient", "week", "class", "status", "measure", "value"]
    for record in report.cases:
        start = [record.case, record.patient, record.week]
        for name, found in record.measures.items():
            for measure in (m for m in MEASURES if m in found):
                value = found[measure]
                yield [*start, name, found["status"], measure, "" if math.isnan(value) else f"{value:.6g}"]


def metrics(report: Report) -> dict:
    """What `metrics.json` holds: the keys of nnU-Net's `summary.json`, then our own."""
    names, cases, summary = report.class_names[1:], report.cases, report.summary
    numbers = [m for m in (*MEASURES, *COUNTS) if any(m in case.measures[name] for case in cases for name in names)]
    mean = {str(value): means(report, name, numbers) for value, name in enumerate(names, start=1)}
    doubt = {"looks": report.looks, "temperature": report.temperature, "reliability": report.reliability}
    return {
        "foreground_mean": {m: average([of_class[m] for of_class in mean.values()]) for m in numbers},
        "mean": mean,
        "metric_per_case": [case_metrics(case, names, numbers) for case in cases],
        **{key: getattr(report, key) for key in ("class_names", "tolerance_mm", "has_truth", "about")},
        "worst": summary.worst and summary.worst.to_dict(),
        "foreground": summary.foreground and asdict(summary.foreground),
        "classes": {name: asdict(found) for name, found in summary.classes.items()},
        "patients": {name: asdict(found) for name, found in summary.patients.items()},
        **{key: getattr(report, key) for key in ("problems", "rules", "limits")},
        "doubt": doubt if report.looks else None,
        "motion": [motion_of_organ(row) for row in report.motion.rows] if report.motion else None,
    }


def motion_of_organ(row: tuple[str, str, str, list, str]) -> dict:
    """A row of `Motion`, with the names that `weeks.json` has for its figures."""
    patient, scan, organ, figures, note = row
    keys = ("change_percent", "left_mm", "back_mm", "head_mm", "surface_max_mm", "residual_mm")
    return {"patient": patient, "scan": scan, "organ": organ, **dict(zip(keys, figures, strict=True)), "note": note}


def case_metrics(case: CaseRecord, names: Sequence[str], numbers: Sequence[str]) -> dict:
    """One entry of `metric_per_case`; classes are called by their value, as in nnU-Net's file."""
    results = {str(value): case.measures[name] for value, name in enumerate(names, start=1)}
    return {
        **{
            key: getattr(case, key)
            for key in ("case", "patient", "week", "seconds", "warnings", "signs", "worse", "expected")
        },
        "prediction_file": case.prediction_file or case.case,
        "reference_file": case.reference_file or case.case,
        "status": {value: found["status"] for value, found in results.items()},
        "metrics": {value: {m: found[m] for m in numbers if m in found} for value, found in results.items()},
    }


def means(report: Report, name: str, numbers: Sequence[str]) -> dict[str, float]:
    """The mean of every number of a class; counts of voxels are averaged over all cases, as in nnU-Net's file."""
    found = {m: one.mean for m, one in report.summary.classes[name].measures.items()}
    return {m: found[m] if m in found else average([c.measures[name].get(m) for c in report.cases]) for m in numbers}


def average(values: Sequence[float | None]) -> float:
    """The mean of what is defined."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
