"""The sections of a comparison, each made by one function from the comparison alone."""

from scripts.report import comparison_tables as tables
from scripts.report import figures
from scripts.report.blocks import Box, Charts, Columns, Items, Pairs, Section, Text
from scripts.report.report_sections import NO_INTERVAL
from scripts.report.tables import number

MOST = 30  # results that got worse, in the table


def headline(comparison: dict) -> list[tuple[str, str, str]]:
    """By how much every further run differs from the first: label, value and a note."""
    base, *others = (run["label"] for run in comparison["runs"])
    found = []
    for label, change in zip(others, comparison["foreground"]["differences"]):
        note = NO_INTERVAL
        if change["ci"]:
            note = f"95 % interval {tables.shown_interval(change['ci'])}, {tables.verdict(change, 'Dice')}"
        found.append((f"Mean Dice, {label} minus {base}", number(change["mean"]), note))
        worse = sum(entry["run"] == label for entry in comparison["worse"])
        found.append((f"Got worse in {label}", str(worse), "results of a class in a case"))
    return found


def runs(comparison: dict) -> Section:
    boxes = []
    for position, run in enumerate(comparison["runs"]):
        title = run["label"] + ", the baseline" * (position == 0)
        boxes.append(Box(title, [Pairs([["Source", run["source"]], *run["about"]])]))
    return Section("summary", "", "Runs", [Columns(boxes)])


def dice(comparison: dict) -> Section:
    return Section("dice", "Dice", "Dice", [tables.comparison_table(comparison, ["Dice"], "Dice of every class")])


def differences(comparison: dict) -> Section:
    note = "Every case is a point. The diamond is the mean difference, the bar its 95 % interval."
    charts = Charts(note, figures.differences(comparison))
    return Section("differences", "Difference of every case", "Every case", [charts])


def worse(comparison: dict) -> Section | None:
    if not comparison["worse"]:
        return None
    more = len(comparison["worse"]) - MOST
    note = [Text(f"{more} more results got worse by less.")] if more > 0 else []
    return Section("worse", "Cases that got worse", "Got worse", [tables.worse_table(comparison, MOST), *note])


def missed(comparison: dict) -> Section:
    return Section("missed", "Missed structures and false alarms", "Missed", [tables.missed_table(comparison)])


def measures(comparison: dict) -> Section | None:
    others = [measure for measure in comparison["measures"] if measure != "Dice"]
    if not others:
        return None
    table = tables.comparison_table(comparison, others, "The other measures of every class")
    return Section("measures", "Other measures", "Other measures", [table])


def rules(comparison: dict) -> Section | None:
    return Section("rules", "How to read this", "Rules", [Items(comparison["rules"])]) if comparison["rules"] else None


SECTIONS = (runs, dice, differences, worse, missed, measures, rules)
