"""Which pictures a report shows, and what it says beside them."""

import math
from collections.abc import Callable
from dataclasses import replace

from scripts.core.errors import UserError
from scripts.report.schema import CaseRecord, Report
from scripts.report.tables import number

LOWEST = 3  # cases to look at first, where a Dice is expected
FIRST, MOST = 9, 20  # the first cases, and at most that many further cases with warnings
ORDINALS = ("first", "second", "third")
TILES = ("image", "truth", "prediction", "error", "doubt")
ALL_CLASSES = ""  # key of the picture of all classes together


def add_pictures(report: Report, draw: Callable[[CaseRecord, str], dict] | None) -> None:
    """Draws the pictures that the page shows and that no record has yet, and says where the worst result is seen.

    Args:
        report: all of it but the pictures.
        draw: gives the picture of a class ("" is all classes) of a record; None where records have their pictures.
    """
    shown = [(record, ALL_CLASSES) for record in (*report.cases[:FIRST], *warned_cases(report)[:MOST])]
    shown += [(record, name) for name in report.summary.classes for _, record in best_and_worst(report, name)]
    first = first_case(report)
    worst = report.summary.worst
    if first is not None:
        shown.append((first, worst.class_name if worst else ALL_CLASSES))
    shown += lowest_expected(report)
    shown.sort(key=lambda entry: entry[0].case)  # the pictures of a case one after the other
    for record, name in shown if draw is not None else ():
        if name not in record.pictures:
            try:
                record.pictures[name] = draw(record, name)
            except UserError:  # a file that was moved meanwhile; the case is scored, only its picture is missing
                continue
    if worst and first is not None:
        picture = first.pictures.get(worst.class_name, {})
        places = {key: picture.get(key) for key in ("plane", "slice", "axis")}
        report.summary.worst = replace(worst, **places)


def first_case(report: Report) -> CaseRecord | None:
    """The case to look at first: the one with the worst result, or without truth with most warnings."""
    if report.has_truth:
        worst = report.summary.worst
        return next((record for record in report.cases if worst and record.case == worst.case), None)
    return next((record for record in sorted(report.cases, key=lambda r: -len(r.warnings)) if record.warnings), None)


def lowest_expected(report: Report) -> list[tuple[CaseRecord, str]]:
    """Without truth: the cases with the lowest expected Dice, each with the class that it is expected of."""
    if report.has_truth:
        return []
    found = [
        (min((one["dice"], name) for name, one in record.expected.items()), record)
        for record in report.cases
        if record.expected
    ]
    found.sort(key=lambda entry: (*entry[0], entry[1].case))
    return [(record, name) for (_, name), record in found[:LOWEST]]


def warned_cases(report: Report) -> list[CaseRecord]:
    """Without truth: the further cases with warnings that have a picture."""
    return [] if report.has_truth else [record for record in report.cases[FIRST:] if record.warnings]


def best_and_worst(report: Report, name: str) -> list[tuple[str, CaseRecord]]:
    """A class's worst and best case by Dice; one that was missed has 0."""
    scored = [record for record in report.cases if record.status(name) in ("scored", "missed")]
    if not scored:
        return []
    worst, best = (choose(scored, key=lambda record: record.measures[name]["Dice"]) for choose in (min, max))
    return [("Worst", worst), ("Best", best)] if worst is not best else [("Only", worst)]


def place_words(place: dict) -> str:
    """In words which slice it is, so that it can be found in any viewer."""
    return f"{place['plane']} slice {place['slice']} ({ORDINALS[place['axis']]} axis, counted from 0)"


def captioned(record: CaseRecord, name: str, title: str) -> dict | None:
    """A picture as a page shows it, or None where the case has no such picture."""
    strip = record.pictures.get(name)
    if not strip:
        return None
    tiles = [(tile, strip["tiles"][tile]) for tile in TILES if tile in strip["tiles"]]
    return {"title": title, "where": place_words(strip), "tiles": tiles}


def first_pictures(report: Report) -> list[dict]:
    found = (captioned(record, ALL_CLASSES, case_title(record)) for record in report.cases[:FIRST])
    return [strip for strip in found if strip]


def extreme_pictures(report: Report) -> list[dict]:
    """The worst and the best case of every class."""
    found = []
    for name in report.summary.classes if report.has_truth else ():
        for word, record in best_and_worst(report, name):
            missed = record.status(name) == "missed"
            result = "missed" if missed else f"Dice {number(record.measures[name]['Dice'])}"
            found.append(captioned(record, name, f"{word} {name}: {record.case}, {result}"))
    return [strip for strip in found if strip]


def warned_pictures(report: Report) -> tuple[list[dict], int]:
    """Pictures of further cases with warnings, and how many more there are than are shown."""
    cases = [record for record in warned_cases(report) if ALL_CLASSES in record.pictures]
    titles = (f"{record.case}: {'; '.join(record.warnings)}" for record in cases[:MOST])
    shown = [captioned(record, ALL_CLASSES, title) for record, title in zip(cases, titles)]
    return shown, max(0, len(warned_cases(report)) - MOST) if shown else 0


def case_title(record: CaseRecord) -> str:
    known = [result["Dice"] for result in record.measures.values() if not math.isnan(result.get("Dice", math.nan))]
    return f"{record.case}, mean Dice {number(sum(known) / len(known))}" if known else record.case
