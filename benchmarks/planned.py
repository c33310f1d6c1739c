"""What a plan is worth: makes one for a data set, trains folds with it and nothing else, and scores them.

    python benchmarks/planned.py SET DATA [--folds 1 2] [--minutes_each 60] [--minutes 150] [--output DIR]

SET is one of promise12, hippocampus, hearts and pelvis; DATA is its folder. Nobody adjusts the plan: it is made by
`python -m scripts.plan` for --minutes_each on this machine, with the threads that OMP_NUM_THREADS gives, and is kept
for all folds. Cases of a fold train nothing: the last epoch is scored. The plan looks at all label maps. For
the hippocampus the folds are those of folds.json; the hearts have one, their validation pictures, and the pelvis has
one, the demo's test patients, with the demo's training patients alone; other patients are dealt into five folds. What
was stopped, or is out of its minutes, goes on when the same command is given again. The table of all sets is left in
the output folder as planned.md and planned.json; rows whose trainings are not there any more stay in them.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import common
import hippocampus
from results import leave, with_earlier
from trainings import DEMO, command, duration, execute, train_once

FOLDS = 5
ONE_FOLD = ("hearts", "pelvis")
SCORED = 0  # the fold of the data list whose cases are scored; all others have 1


@dataclass(frozen=True)
class Task:
    """A data set that a plan is made for.

    Args:
        what: a few words for the table.
        class_names: of its labels.
        published: what others reach, for the table.
    """

    what: str
    class_names: tuple[str, ...]
    published: str


TASKS = {
    "promise12": Task(
        "prostate in T2 MR (PROMISE12, 36 of 50 cases)",
        ("background", "prostate"),
        "0.889 (nnU-Net v1 3D, five folds of 50)",
    ),
    "hippocampus": Task(
        "hippocampus (Decathlon Task04)",
        ("background", *hippocampus.CLASSES),
        "0.885 (nnU-Net v1, fold 1; mean of the folds 0.888)",
    ),
    "hearts": Task(
        "short-axis pictures of hearts (from ACDC)",
        ("background", "right ventricle", "myocardium", "left ventricle"),
        "0.876 (the recipe's authors, test pictures of their own)",
    ),
    "pelvis": Task(
        "synthetic male pelvis",
        ("background", "body", "bones", "bladder", "rectum", "prostate"),
        "0.914 (`demo.json`, the same cases)",
    ),
}  # fmt: skip


def datalist(name: str, data: Path, fold: int) -> dict:
    """Who trains in a fold; the cases of the fold are under `validation`."""
    if name == "hippocampus":
        return hippocampus.datalist(data, f"fold{fold}")
    from scripts.data.datalist import make_datalist

    task = TASKS[name]
    if name == "hearts":
        return make_datalist(data, task.class_names, test=0.0)
    if name == "pelvis":
        content = make_datalist(data, task.class_names)
        return content | {"validation": content["test"], "test": []}
    content = make_datalist(data, task.class_names, test=0.0)
    entries = content["training"] + content["validation"]
    patients = sorted({entry["patient"] for entry in entries})
    scored = set(patients[fold::FOLDS])  # in the order of the names, which often begin with the hospital
    for split, inside in (("training", False), ("validation", True)):
        content[split] = [entry for entry in entries if (entry["patient"] in scored) is inside]
    return content | {"test": []}


def in_folds(content: dict) -> dict:
    """The same cases as a list with folds: a plan may ask for one."""
    sides = (("validation", SCORED), ("training", 1))
    entries = [entry | {"fold": fold} for split, fold in sides for entry in content[split]]
    return content | {"folds": 2, "training": entries, "validation": []}


def work(name: str, fold: int, given: argparse.Namespace, deadline: float) -> bool:
    """Makes the plan if there is none yet, trains a fold, and scores it; returns whether it is whole."""
    place = given.output / name
    plan, folder = place / "plan.json", place / f"fold{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    listed = in_folds(datalist(name, given.data, fold))
    (folder / "datalist.json").write_text(json.dumps(listed, indent=1) + "\n")
    if not plan.is_file():
        names = f'--class_names "{list(TASKS[name].class_names)}" --datalist {folder}/datalist.json'
        places = f"--output {plan} --output_dir {place} --minutes {given.minutes_each:g}"
        made = execute("plan", f"python -m scripts.plan --dataset_dir {given.data} {places} {names}", deadline)
        if not made:
            return False
    data = {"dataset_dir": given.data, "seed": given.seed, "fold": SCORED}
    train = command("training", ["train", plan], folder, "run", data, "--resume True")
    noted = train.replace(str(place), "OUTPUT").replace(str(given.data), "DATA")
    if not train_once(folder, f"fold {fold}: train", train, noted, deadline):
        return False
    evaluate = command("evaluating", ["train", "evaluate", plan], folder, "run", data, "--split validation")
    return (folder / "run" / "metrics.json").is_file() or execute(f"fold {fold}: score", evaluate, deadline)


def outcome(folder: Path) -> dict:
    """What the files of a fold say of it."""
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    total, about = metrics["foreground"], dict(metrics["about"])
    row = {"set": folder.parent.name, "fold": folder.name.removeprefix("fold"), **duration(folder / "run")}
    row |= {"processors": common.noted_processors(folder), "device": about["Device"], "versions": about["Versions"]}
    return row | {"cases": total["n"], "dice": total["mean"], "ci": total["ci"]}


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| data | cases | mean Dice | published | epochs | training, by the clock | processor |",
        "|---|---:|---:|---|---:|---:|---|",
    ]
    for name, task in TASKS.items():
        folds = [row for row in rows if row["set"] == name]
        for row in folds:
            shown = f"{row['dice']:.4f} ({row['ci'][0]:.3f} to {row['ci'][1]:.3f})"
            cost = f"{row['epochs']} | {row['seconds'] / 60:.0f} min | {', '.join(row['processors'])}"
            lines.append(f"| {task.what}, fold {row['fold']} | {row['cases']} | {shown} | {task.published} | {cost} |")
        if len(folds) > 1:
            cases = sum(row["cases"] for row in folds)
            mean = sum(row["cases"] * row["dice"] for row in folds) / cases
            lines.append(f"| {task.what}, {len(folds)} folds | {cases} | {mean:.4f} | {task.published} | | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=TASKS)
    parser.add_argument("data", type=common.present, help="its folder")
    parser.add_argument("--folds", type=int, nargs="+", help="from 0; 1 and 2 by default; hearts and pelvis have one")
    parser.add_argument("--minutes_each", type=float, default=60, help="that a training may take")
    parser.add_argument("--minutes", type=float, default=150, help="that this call may take")
    parser.add_argument("--output", type=Path, default=DEMO / "planned")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.output = given.output.resolve()
    given.data = given.data.resolve()
    given.folds = given.folds or ([0] if given.set in ONE_FOLD else [1, 2])
    if given.set in ONE_FOLD and given.folds != [0]:
        parser.error(f"--folds: {given.set} has one, 0")
    deadline = time.monotonic() + 60 * given.minutes
    whole = all(time.monotonic() < deadline and work(given.set, fold, given, deadline) for fold in given.folds)
    done = sorted(file.parent.parent for file in given.output.glob("*/fold*/run/metrics.json"))
    if not done:
        sys.exit("no fold is scored yet; the same command goes on")
    rows = [outcome(folder) for folder in done]
    rows = with_earlier(rows, given.output / "planned.json", lambda row: (row["set"], row["fold"]))
    rows.sort(key=lambda row: (list(TASKS).index(row["set"]), row["fold"]))
    text = f"{table(rows)}\n\nMean Dice of the cases, its 95 % interval. Research use only.\n"
    leave(rows, text, given.output / "planned")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
