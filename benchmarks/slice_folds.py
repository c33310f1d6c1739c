"""Trainings on slices by folds of patients, and how they compare: what lgg.py and cardiac.py share.

Every training is a command as one would type it. What was stopped, or is out of its minutes, goes on when the same
command is given again; what is trained is not trained again. The scores of several folds are pooled, so that each
patient counts once, scored by a network that has not seen this patient.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import common
import numpy as np
from ignite.engine import Events
from results import with_earlier
from trainings import command, duration, execute, train_once


@dataclass(frozen=True)
class Variant:
    """A training that is tried.

    Args:
        what: a few words for the table.
        network: overrides of training and evaluation.
        training: overrides of the training alone.
        scored: further ways to score the same weights: the folder, the overrides of the evaluation.
    """

    what: str
    network: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    scored: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Where trainings are kept, and what they have in common.

    Args:
        data: folder of the images.
        output: folder of all trainings.
        recipe: name of the recipe.
        description: of the data, for the reports.
        class_names: of the recipe.
        seed: of all trainings.
    """

    data: Path
    output: Path
    recipe: str
    description: str
    class_names: tuple[str, ...]
    seed: int = 0


def divide(entries: list[dict], folds: int, fold: int) -> dict[str, list[dict]]:
    """Training and validation cases of a fold. Patients are dealt out in the order of their names, so that each fold
    has patients of every hospital where names begin with it."""
    patients = sorted({entry["patient"] for entry in entries})
    if not 2 <= folds <= len(patients):
        sys.exit(f"{folds} folds of {len(patients)} patients: expected 2 to {len(patients)}; give other --folds")
    scored = set(patients[fold::folds])
    return {
        "training": [entry for entry in entries if entry["patient"] not in scored],
        "validation": [entry for entry in entries if entry["patient"] in scored],
    }


def write_datalist(study: Study, folder: Path, splits: dict[str, list[dict]]) -> None:
    """Writes the list of cases of a training."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len({entry["patient"] for entry in splits["training"]})
    content = {
        "description": f"{study.description}, trained on {count} patients",
        "dataset_dir": str(study.data),
        "class_names": list(study.class_names),
        **{split: splits.get(split, []) for split in ("training", "validation", "test")},
    }
    (folder / "datalist.json").write_text(json.dumps(content, indent=1) + "\n")


def train(study: Study, name: str, variant: Variant, deadline: float, **options) -> bool:
    """Trains in the folder `name`, whose datalist is there, or goes on with it; returns whether that is done."""
    folder = study.output / name
    given = {"dataset_dir": study.data, "seed": study.seed, "keep_last": True, "val_interval": 10, "num_workers": 0}
    given |= variant.network | variant.training | options
    files: list[str | Path] = ["train", study.recipe, "strong_2d"]
    line = command("training", files, folder, "run", given, "--resume True")
    noted = line.replace(str(folder), name).replace(str(study.data), "DATA")
    return train_once(folder, name, line, noted, deadline)


def score(study: Study, name: str, variant: Variant, split: str, deadline: float) -> bool:
    """Scores what is trained in the folder `name` in every way of the variant; returns whether that is done."""
    for out, changed in {"run": {}, **variant.scored}.items():
        options = {"dataset_dir": study.data} | variant.network | changed
        files: list[str | Path] = ["train", "evaluate", study.recipe]
        line = command("evaluating", files, study.output / name, out, options, f"--split {split}")
        if not is_scored(study.output / name / out) and not execute(f"{name}: score, {out}", line, deadline):
            return False
    return True


def is_scored(folder: Path) -> bool:
    return (folder / "metrics.json").is_file()


def seconds_a_step(study: Study, name: str, variant: Variant, entries: list[dict], count: int = 5) -> float:
    """Processor seconds of a training step, with the making of its batch: the median of some real steps.

    The clock would also count what other programs do. It is measured once, and kept in the folder `name`.
    """
    from scripts.core.memory import keep_freed

    folder = study.output / name
    kept = folder / "seconds_a_step.json"
    if not kept.is_file():
        keep_freed()  # as every run does
        write_datalist(study, folder, {"training": entries})
        made = common.workflow(
            ["train", study.recipe, "strong_2d"],
            dataset_dir=str(study.data), datalist=str(folder / "datalist.json"), output_dir=str(folder / "run"),
            num_workers=0, keep_last=True, **variant.network, **variant.training,
        )  # fmt: skip
        trainer, times = made.parser.get_parsed_content("train::trainer"), []
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: times.append(time.process_time()))
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=count + 2), trainer.terminate)
        trainer.run()
        kept.write_text(json.dumps(median(later - earlier for earlier, later in zip(times[1:], times[2:]))) + "\n")
    return json.loads(kept.read_text())


def steps(entries: list[dict], copies: int) -> int:
    """Steps of an epoch with the batches of strong_2d.json."""
    batch = json.loads((common.BUNDLE / "configs" / "strong_2d.json").read_text())["batch_size"]
    return math.ceil(copies * len(entries) / batch)


def epochs_within(minutes: float, seconds: float, entries: list[dict], copies: int) -> int:
    """How many epochs fit into the minutes, one at least."""
    return max(1, int(60 * minutes / (seconds * steps(entries, copies))))


def pooled(folders: Sequence[Path]) -> dict[str, tuple[str, list[float]]]:
    """Patient and Dice of every class, by case, of all folds."""
    found = {}
    for folder in folders:
        for case in json.loads((folder / "metrics.json").read_text())["metric_per_case"]:
            values = [measures["Dice"] for _, measures in sorted(case["metrics"].items())]
            found[case["case"]] = (case["patient"], [math.nan if value is None else value for value in values])
    return found


def summary(folders: Sequence[Path], first: Sequence[Path] = ()) -> dict:
    """Mean Dice of the pooled cases and its interval; with `first`, the differences from its same cases as well."""
    from scripts.report.comparison import side_by_side

    cases = pooled(folders)
    row = {"cases": len(cases), "patients": len({patient for patient, _ in cases.values()})}
    values = np.array([dice for _, dice in cases.values()], float)
    patients = [patient for patient, _ in cases.values()]
    alone = side_by_side(np.stack([np.zeros_like(values), values]), patients, "Dice")["differences"][0]
    row["dice"] = {"mean": alone["mean"], "ci": alone["ci"]}
    row["dice"]["median"] = float(np.median(np.nanmean(values, axis=1)))
    row["classes"] = np.nanmean(values, axis=0).tolist()
    before = pooled(first)
    if shared := [case for case in before if case in cases]:
        both = np.array([[found[case][1] for case in shared] for found in (before, cases)], float)
        found = side_by_side(both, [cases[case][0] for case in shared], "Dice")["differences"][0]
        row["difference"] = {key: found[key] for key in ("mean", "ci", "patients")}
    return row


def folder_of(name: str, fold: int, folds: int) -> str:
    return f"{name}/{fold}of{folds}"


def compared(study: Study, variants: dict[str, Variant], folds: int) -> list[dict]:
    """A row for each variant that is scored on a fold or more; the first one is what the others are compared with."""
    rows, first = [], None
    for name, variant in variants.items():
        done = [folder_of(name, fold, folds) for fold in range(folds)]
        done = [folder for folder in done if is_scored(study.output / folder / "run")]
        runs = [study.output / folder / "run" for folder in done]
        if runs:
            row = {"name": name, "what": variant.what, "folds": len(done)} | summary(runs, first or ())
            for out in variant.scored:
                if all(is_scored(study.output / folder / out) for folder in done):
                    row[out] = summary([study.output / folder / out for folder in done])["dice"]["mean"]
            rows.append(row | costs(study, done))
        first = runs if first is None else first
    return rows


def in_order(rows: list[dict], file: Path, order: Sequence[str]) -> list[dict]:
    """The rows of known variants, with those of trainings that are not there any more, in the order of the variants."""
    known = [row for row in with_earlier(rows, file, lambda row: row["name"]) if row["name"] in order]
    return sorted(known, key=lambda row: order.index(row["name"]))


def costs(study: Study, names: Sequence[str], out: str = "run") -> dict:
    """Epochs, mean minutes and processors of several trainings; `out` is the folder of a report."""
    spent = [duration(study.output / name / "run") for name in names]
    about = dict(json.loads((study.output / names[0] / out / "metrics.json").read_text())["about"])
    return {
        "epochs": max(one["epochs"] for one in spent),
        "minutes": sum(one["seconds"] for one in spent) / len(spent) / 60,
        "model": about["Model"],
        "processors": sorted({one for name in names for one in common.noted_processors(study.output / name)}),
        "versions": about["Versions"],
    }


def between(found: dict, sign: str = "") -> str:
    """A mean with its interval, as the tables have it."""
    low, high = found["ci"] or (math.nan, math.nan)
    return f"{found['mean']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def difference(row: dict) -> str:
    """The difference from the first row, if the row is not the first."""
    return between(row["difference"], "+") if "difference" in row else ""


def on_processors(rows: list[dict]) -> str:
    """What stands below a table: the processors of its trainings."""
    names = sorted({name for row in rows for name in row["processors"]})
    return f"Minutes are by the clock, of a machine with other work as well. Processor: {' and '.join(names)}."
