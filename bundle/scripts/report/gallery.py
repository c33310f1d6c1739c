"""Which cases a report shows pictures of, and what it says below them."""

import math

from scripts.core.palette import colour
from scripts.report.strips import ERROR_COLOURS
from scripts.report.tables import number

FIRST, MOST = 9, 20  # the first cases, and at most that many further cases with warnings
ORDINALS = ("first", "second", "third")
TILES = ("image", "truth", "prediction", "error")


def look_first(content: dict) -> dict | None:
    """The worst result, or without truth the case with most warnings: words and a strip."""
    records = {record["case"]: record for record in content["cases"]}
    if not content["has_truth"]:
        worst = max(content["cases"], key=lambda record: len(record["warnings"]), default=None)
        if worst is None or not worst["warnings"]:
            return None
        strip = labelled(worst, "", worst["case"])
        return {"case": worst["case"], "where": strip and strip["where"], "strip": strip}
    worst = content["worst"]
    if worst is None:
        return None
    record = records.get(worst["case"])
    name = worst["class"] if record and worst["class"] in record["pictures"] else ""
    strip = labelled(record, name, f"{worst['case']}, {worst['class']}") if record else None
    errors = [kind for kind in ERROR_COLOURS.items() if not name or kind[0] != "wrong class"]
    place = where(worst) if worst["axis"] is not None else None  # None where no pictures were made
    return worst | {"where": place, "value": number(worst["value"]), "strip": strip, "errors": errors}


def where(place: dict) -> str:
    """In words which slice it is, so that any viewer finds it."""
    return f"{place['plane']} slice {place['slice']} ({ORDINALS[place['axis']]} axis, counted from 0)"


def labelled(record: dict, name: str, title: str) -> dict | None:
    """A strip as a page shows it, or None where the case has no such picture."""
    strip = record["pictures"].get(name)
    if not strip:
        return None
    tiles = [(tile, strip["tiles"][tile]) for tile in TILES if tile in strip["tiles"]]
    return {"title": title, "where": where(strip), "tiles": tiles}


def report_pictures(content: dict) -> dict:
    cases = content["cases"]
    first = [strip for record in cases[:FIRST] if (strip := labelled(record, "", case_title(record)))]
    extremes, warned = [], []
    if content["has_truth"]:
        extremes = [strip for name in content["classes"] for strip in best_and_worst(cases, name)]
    else:
        warned = [
            strip
            for record in cases[FIRST:]
            if record["warnings"]
            and (strip := labelled(record, "", f"{record['case']}: {'; '.join(record['warnings'])}"))
        ]
    return {
        "first_strips": first,
        "extreme_strips": extremes,
        "warned_strips": warned[:MOST],
        "more_warned": max(0, len(warned) - MOST),
        "class_legend": [(name, colour(value)) for value, name in enumerate(content["class_names"]) if value],
        "error_legend": list(ERROR_COLOURS.items()),
    }


def case_title(record: dict) -> str:
    known = [result["Dice"] for result in record["measures"].values() if not math.isnan(result.get("Dice", math.nan))]
    return f"{record['case']}, mean Dice {number(sum(known) / len(known))}" if known else record["case"]


def best_and_worst(cases: list[dict], name: str) -> list[dict]:
    """The strips of a class's best and worst case; a missed one is as bad as can be."""
    scored = [
        (0.0 if result["status"] == "missed" else result["Dice"], record, result["status"])
        for record in cases
        if (result := record["measures"].get(name)) and result["status"] in ("scored", "missed")
    ]
    scored = [entry for entry in scored if not math.isnan(entry[0])]
    if not scored:
        return []
    worst, best = (choose(scored, key=lambda entry: entry[0]) for choose in (min, max))
    shown = [("Worst", worst), ("Best", best)] if worst is not best else [("Only", worst)]
    strips = []
    for word, (dice, record, status) in shown:
        told = "missed" if status == "missed" else f"Dice {number(dice)}"
        strips.append(labelled(record, name, f"{word} {name}: {record['case']}, {told}"))
    return [strip for strip in strips if strip]
