"""The four files of a report, with truth or without: `metrics.csv`, `metrics.json`, `report.html`, `report.md`."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import atomic_write, write_json
from scripts.data.anonymise import secret_word
from scripts.report import page
from scripts.report.measures import MEASURES, RULES
from scripts.report.records import anonymous
from scripts.report.summary import summarise

COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")  # nnU-Net's names, as all keys of its summary.json
PRIVATE = ("Input", "Data list", "Truth", "Prediction")  # paths, which may hold names
LIMITS = (
    "Research use only: not a medical device, not for diagnosis, treatment or any clinical decision.",
    "The figures hold for images like these, from the same scanners and the same hands that drew the truth.",
    "Intervals are percentile bootstraps over patients; with fewer than about ten patients they are too narrow.",
    "Best and worst cases are chosen by Dice, which is hard on small structures and kind to large ones.",
)


def build(
    records: list[dict],
    class_names: Sequence[str],
    origin: list[list[str]],
    *,
    has_truth: bool = True,
    tolerance_mm: float = 2.0,
    problems: Sequence[str] = (),
    history: str | Path | None = None,
    trained_on: str = "",
    anonymise: bool | str = False,
) -> dict:
    """All that the page says, as plain data.

    Args:
        records: of `scripts.report.records.examine`, in any order.
        class_names: names of the values 0, 1, ...
        origin: pairs of a label and a text, what was evaluated.
        has_truth: False for a page of volumes and warnings.
        tolerance_mm: of the surface Dice.
        problems: a line for every file that was left out.
        history: `history.csv` of the training, where it is at hand.
        trained_on: what the model was trained on, for the limits.
        anonymise: True or a secret word: codes in place of the names of cases and patients.
    """
    word = secret_word(anonymise)
    if word is not None:
        records = [anonymous(record, word) for record in records]
        if len({record["case"] for record in records}) < len(records):
            raise UserError("anonymise: two cases got one code; choose another word, --anonymise WORD")
        origin = [[label, "not shown" if label in PRIVATE else text] for label, text in origin]
        problems = [f"{len(problems)} file(s); their names were printed when this was made"] if problems else []
    records = sorted(records, key=lambda record: record["case"])
    rules = [*RULES, f"Surface Dice: the share of both surfaces that lies within {tolerance_mm:g} mm of the other."]
    limits = [*LIMITS] if has_truth else [LIMITS[0], "There is no truth here: nothing on this page is a score."]
    return {
        "title": "Evaluation" if has_truth else "Segmentation",
        "has_truth": has_truth,
        "about": origin,
        "class_names": list(class_names),
        "tolerance_mm": tolerance_mm,
        **summarise(records, class_names),
        "cases": records,
        "problems": list(problems),
        "rules": rules if has_truth else [],
        "limits": [*limits, f"Trained on: {trained_on}."] if trained_on else limits,
        "history": read_history(history),
    }


def read_history(file: str | Path | None) -> list[dict] | None:
    if file is None or not Path(file).is_file():
        return None
    with Path(file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream)) or None


def write(content: dict, output_dir: str | Path) -> Path:
    """Writes the four files and returns the page's path."""
    folder = Path(output_dir)
    write_json(metrics(content), folder / "metrics.json")
    for name, text in (("report.md", page.report_markdown(content)), ("report.html", page.report_html(content))):
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    write_table(content, folder / "metrics.csv")
    return folder / "report.html"


def write_table(content: dict, file: Path) -> None:
    """A row per case, class and measure; an empty value where the measure is not defined."""
    with atomic_write(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "patient", "week", "class", "status", "measure", "value"])
        for record in content["cases"]:
            start = [record["case"], record["patient"], "" if record["week"] is None else record["week"]]
            for name, found in record["measures"].items():
                for measure in (m for m in MEASURES if m in found):
                    value = found[measure]
                    shown = "" if math.isnan(value) else f"{value:.6g}"
                    writer.writerow([*start, name, found["status"], measure, shown])


def metrics(content: dict) -> dict:
    """What `metrics.json` holds: the keys of nnU-Net's `summary.json`, then our own."""
    names = content["class_names"][1:]
    numbers = [m for m in (*MEASURES, *COUNTS) if any(m in c["measures"][n] for c in content["cases"] for n in names)]
    mean = {
        str(value): {m: average([case["measures"][name].get(m) for case in content["cases"]]) for m in numbers}
        for value, name in enumerate(names, start=1)
    }
    per_case = [
        {
            "case": case["case"],
            "patient": case["patient"],
            "week": case["week"],
            "seconds": case["seconds"],
            "warnings": case["warnings"],
            "prediction_file": case.get("prediction_file", case["case"]),
            "reference_file": case.get("reference_file", case["case"]),
            "status": {str(value): case["measures"][name]["status"] for value, name in enumerate(names, start=1)},
            "metrics": {
                str(value): {m: found[m] for m in numbers if m in found}
                for value, found in enumerate((case["measures"][name] for name in names), start=1)
            },
        }
        for case in content["cases"]
    ]
    return {
        "foreground_mean": {m: average([mean[str(v)][m] for v in range(1, len(names) + 1)]) for m in numbers},
        "mean": mean,
        "metric_per_case": per_case,
        **{key: content[key] for key in ("class_names", "tolerance_mm", "has_truth", "about", "worst", "foreground")},
        **{key: content[key] for key in ("classes", "patients", "problems", "rules", "limits")},
    }


def average(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
