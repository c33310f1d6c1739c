"""Compares two or more evaluations of the same cases: differences with paired intervals, and what got worse."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.data.label_maps import label_key
from scripts.report.measures import MEASURES, NAN
from scripts.report.summary import intervals, nanmean

FEWEST = 6  # patients; of fewer, all differ in one direction by chance more often than once in twenty comparisons
RULES = (
    "A difference is the value of a run minus that of the first run in the same case, where both have a value. The "
    "means beside it are over these cases.",
    "Intervals (95 %) draw all scans of a patient or none. An interval without 0 is unlikely to be chance, if there is "
    "one comparison. Of twenty comparisons, one such interval is expected by chance; with ten patients about two, as "
    f"intervals of few patients are too narrow. With fewer than {FEWEST} patients nothing is concluded.",
    "A missed structure has Dice 0 and counts. Its precision and distances are not defined and have no difference. A "
    "false alarm has no measure: only its number is compared.",
)


def compared() -> list[str]:
    """The measures that say whether a run is better: all but the volumes."""
    return [measure.name for measure in MEASURES.values() if measure.better in ("more", "less")]


def read_metrics(path: str | Path) -> tuple[Path, dict]:
    """A `metrics.json`, given by its own path or by its folder."""
    file = Path(path) / "metrics.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected the metrics.json of an evaluation, or its folder")
    content = read_json(file)
    if not {"class_names", "metric_per_case", "tolerance_mm"} <= content.keys() or not content.get("has_truth"):
        raise UserError(f"{file}: not the metrics of an evaluation with truth; make them with scripts.report evaluate")
    if not content["metric_per_case"]:
        raise UserError(f"{file}: holds no case; expected one or more")
    return file, content


def compare(paths: Sequence[str]) -> dict:
    """All that the page of a comparison says, as plain data. The other runs are compared with the first."""
    if len(paths) < 2:
        raise UserError(f"{len(paths)} run(s) given: expected two or more metrics.json files or folders")
    runs = [read_metrics(path) for path in paths]
    tables = by_case(runs)
    refuse_other_data(runs, tables)
    names, measures = runs[0][1]["class_names"][1:], compared()
    keys = sorted(tables[0])
    patients = [tables[0][key]["patient"] for key in keys]
    values = np.array(  # runs, cases, classes, measures; what is not defined is NaN
        [
            [[[table[key]["metrics"][name].get(m, NAN) for m in measures] for name in names] for key in keys]
            for table in tables
        ],
        dtype=float,
    )
    dice = values[..., measures.index("Dice")]
    labels = label_runs([file for file, _ in runs])
    shown = [tables[0][key]["case"] for key in keys]
    return {
        "title": "Comparison",
        "runs": [
            {"label": label, "source": str(file), "about": content.get("about", [])}
            for label, (file, content) in zip(labels, runs)
        ],
        "class_names": runs[0][1]["class_names"],
        "tolerance_mm": runs[0][1]["tolerance_mm"],
        "measures": {
            measure: {name: side_by_side(values[:, :, i : i + 1, j], patients, measure) for i, name in enumerate(names)}
            for j, measure in enumerate(measures)
        },
        "foreground": side_by_side(dice, patients, "Dice"),
        "worse": list_losses(dice, shown, names, labels),
        "missed": counts_of("missed", tables, names),
        "false_alarms": counts_of("false alarm", tables, names),
        "cases": [
            {"case": case, "patient": patient, "values": {n: dice[:, k, i].tolist() for i, n in enumerate(names)}}
            for k, (case, patient) in enumerate(zip(shown, patients))
        ],
        "rules": [*RULES, f"Surface Dice: within {runs[0][1]['tolerance_mm']:g} mm."],
    }


def counts_of(status: str, tables: list[dict], names: Sequence[str]) -> dict[str, list[int]]:
    """By class, in how many cases of each run the class has this status."""
    return {
        name: [sum(case["metrics"][name]["status"] == status for case in table.values()) for table in tables]
        for name in names
    }


def by_case(runs: list[tuple[Path, dict]]) -> list[dict[str, dict]]:
    """Of every run its cases: by name where all runs have the same names, or else by what the file names of image and
    truth share, patient and week or name."""
    names = [sorted(case["case"] for case in content["metric_per_case"]) for _, content in runs]
    key_of = str if all(own == names[0] for own in names) else label_key
    return [table_of(file, content, key_of) for file, content in runs]


def table_of(file: Path, content: dict, key_of: Callable[[str], str]) -> dict[str, dict]:
    """Cases of a run by key; measures by class name."""
    names = content["class_names"]
    table: dict[str, dict] = {}
    for case in content["metric_per_case"]:
        measures = {names[int(v)]: found | {"status": case["status"][v]} for v, found in case["metrics"].items()}
        key = key_of(case["case"])
        if key in table:
            raise UserError(f"{file}: {table[key]['case']} and {case['case']} have names of the same case; rename one")
        table[key] = {**case, "metrics": measures}
    return table


def refuse_other_data(runs: list[tuple[Path, dict]], tables: list[dict]) -> None:
    """Refuses runs that can't be compared: other classes, tolerance, cases, patients or another truth."""
    first_file, first = runs[0]
    for (file, content), table in zip(runs[1:], tables[1:]):
        for key in ("class_names", "tolerance_mm"):
            if content[key] != first[key]:
                raise UserError(f"{file}: {key} is {content[key]}, expected {first[key]} as in {first_file}")
        unlike = sorted(table.keys() ^ tables[0].keys())
        if unlike:
            where = first_file if unlike[0] in tables[0] else file
            raise UserError(
                f"{file}: other cases than {first_file}: {len(unlike)} are in one run only, such as "
                f"{unlike[0]} in {where}; evaluate both runs on the same cases"
            )
        refuse_other_patients((first_file, tables[0]), (file, table))
        for key, case in table.items():
            for name, found in case["metrics"].items():
                expected = tables[0][key]["metrics"][name]["n_ref"]
                if found["n_ref"] != expected:
                    raise UserError(
                        f"{file}: another truth than {first_file}: {case['case']}, {name} has {found['n_ref']} "
                        f"voxels, expected {expected}; evaluate both runs against the same truth"
                    )


def refuse_other_patients(first: tuple[Path, dict], other: tuple[Path, dict]) -> None:
    """Refuses two runs, each a file and its cases, that group the cases otherwise. Names of patients may differ, as
    codes do."""
    (first_file, expected), (file, found) = ((path, first_of_patient(table)) for path, table in (first, other))
    for key in sorted(expected):
        if found[key] != expected[key]:
            where, partner = (file, found[key]) if expected[key] == key else (first_file, expected[key])
            raise UserError(
                f"{file}: other patients than {first_file}: {partner} and {key} are of one patient in {where} only; "
                "evaluate both runs with the same data list"
            )


def first_of_patient(table: dict[str, dict]) -> dict[str, str]:
    """By case the first case of the same patient."""
    first: dict[str, str] = {}
    return {key: first.setdefault(table[key]["patient"], key) for key in sorted(table)}


def label_runs(sources: list[Path]) -> list[str]:
    """The shortest ends of the folders' paths that all differ, or of the files' paths if they are in one folder."""
    files = [file.resolve() for file in sources]
    for parts in ([file.parent.parts[1:] or ("",) for file in files], [file.with_suffix("").parts for file in files]):
        for length in range(1, max(map(len, parts)) + 1):
            labels = ["/".join(part[-length:]) for part in parts]
            if len(set(labels)) == len(labels):
                return labels
    return [f"run {i + 1}" for i in range(len(sources))]  # one file, given twice


def side_by_side(values: np.ndarray, patients: Sequence[str], measure: str) -> dict:
    """Differences from the first run, each with the means of both runs over the cases where both have a value.

    Args:
        values: of shape (runs, cases, classes); over several classes the mean of theirs is compared.
        patients: of every case.
        measure: says whether more or less is better.
    """
    sign = -1 if MEASURES[measure].better == "less" else 1
    differences = []
    for other in values[1:]:
        difference = other - values[0]
        per_case = nanmean(difference, axis=1)
        known = ~np.isnan(per_case)
        both = np.where(np.isnan(difference), NAN, [values[0], other])
        differences.append(
            {
                "n": int(known.sum()),
                "patients": len({p for p, k in zip(patients, known) if k}),
                "means": [mean_of_means(run) for run in both],
                "mean": mean_of_means(difference),
                "ci": intervals(difference[..., None], patients, over_classes=True)[0][0],
                "worse": int((sign * per_case[known] < 0).sum()),
                "better": int((sign * per_case[known] > 0).sum()),
            }
        )
    return {"differences": differences}


def mean_of_means(table: np.ndarray) -> float:
    """Mean over the classes of each one's mean over the cases."""
    means = nanmean(table, axis=0)
    return float(nanmean(means, axis=0))


def list_losses(dice: np.ndarray, cases: list[str], names: Sequence[str], labels: list[str]) -> list[dict]:
    """Every case and class whose Dice a later run lowered, the largest loss first."""
    found: list[dict] = [
        {
            "run": labels[r],
            "class": name,
            "case": case,
            "before": float(dice[0, k, i]),
            "after": float(dice[r, k, i]),
            "difference": float(dice[r, k, i] - dice[0, k, i]),
        }
        for r in range(1, len(labels))
        for k, case in enumerate(cases)
        for i, name in enumerate(names)
    ]
    lost = [entry for entry in found if not math.isnan(entry["difference"]) and entry["difference"] < 0]
    return sorted(lost, key=lambda entry: entry["difference"])
