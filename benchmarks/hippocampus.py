"""Hippocampus of the Medical Segmentation Decathlon (Task04): trains the networks of four folds, and scores them.

    python benchmarks/hippocampus.py DATA [--parts fold0 fold1 ...] [--minutes 150] [--set NAME=VALUE ...]

DATA holds imagesTr/, labelsTr/ and folds.json, which names the cases that each fold is scored on; where it holds
nnunet_v1_case_dice.json too, the Dice of nnU-Net by case, they are compared case by case. Every fold has the recipe's
number of epochs and keeps the last: its own cases choose nothing, they are looked at for the curve alone. The networks
of all folds, each of which has seen other cases, are left together, in half precision, as models/hippocampus.json and
the files that it lists: those of bundle/models. What was stopped, or is out of its minutes, goes on when the same
command is given again; what is trained isn't trained again. On a GPU the same commands run there, in bf16 where it has
that. The table is left beside the folds as hippocampus.md and hippocampus.json.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from statistics import mean

import common
import numpy as np
from results import leave
from trainings import DEMO, command, duration, execute, train_once

PARTS = ("fold0", "fold1", "fold2", "fold3")
SOURCE = "Hippocampus of the Medical Segmentation Decathlon (Task04, CC-BY-SA 4.0)"
CLASSES = ("anterior", "posterior")
PUBLISHED = {  # case-mean Dice of other systems, trained on 208 cases where these have 156
    "nnU-Net 3D, mean of five folds": (0.8975, 0.8807),
    "MONAI DynUNet, mean of these four folds": (0.8975, 0.8813),
}
SHAPING = ("features", "levels", "network_def")  # options that evaluation needs as well
RECIPE = ["recipe_hippocampus"]
PEER = "nnunet_v1_case_dice.json"


def datalist(data: Path, part: str) -> dict:
    """Who trains in a fold; its own cases are under `validation`."""
    folds = json.loads((data / "folds.json").read_text())
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").glob("hippocampus_*.nii.gz"))
    if missing := sorted({name for fold in folds.values() for name in fold} - set(names)):
        sys.exit(f"{data / 'imagesTr'}: {len(missing)} cases of folds.json are not there, the first is {missing[0]}")
    scored = set(folds[part])
    entries = {
        name: {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz", "patient": name}
        for name in names
    }
    return {
        "description": f"{SOURCE}, {len(names) - len(scored)} cases, all but {part}",
        "dataset_dir": str(data.resolve()),
        "class_names": ["background", *CLASSES],
        "training": [entries[name] for name in names if name not in scored],
        "validation": [entries[name] for name in names if name in scored],
        "test": [],
    }


def work(part: str, given: argparse.Namespace, deadline: float) -> bool:
    """Trains a part, or goes on with it, and scores it; returns whether it is whole."""
    folder = given.output / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps(datalist(given.data, part), indent=1) + "\n")
    shared = {"dataset_dir": given.data.resolve(), "seed": given.seed}
    training = shared | {"keep_last": True, "val_interval": 5} | given.options
    train = command("training", ["train", *RECIPE, "strong"], folder, "run", training, "--resume True")
    noted = train.replace(str(folder), part).replace(str(given.data.resolve()), "DATA")
    if not train_once(folder, part, train, noted, deadline):
        return False
    if (folder / "run" / "metrics.json").is_file():
        return True
    evaluate = command(
        "evaluating",
        ["train", "evaluate", *RECIPE],
        folder,
        "run",
        shared | shaping(given.options),
        "--split validation",
    )
    return execute(f"{part}: score", evaluate, deadline)


def shaping(options: dict) -> dict:
    """Those of the options of a training that its evaluation needs as well."""
    return {name: value for name, value in options.items() if name.split("::")[0] in SHAPING}


def outcome(part: str, folder: Path, peer: dict[str, float]) -> dict:
    """What the files of a part say of it.

    Args:
        part: the name of the fold.
        folder: of its files.
        peer: the Dice of another system by case, as the mean of both classes.
    """
    row = {"part": part, **json.loads((folder / "trained.json").read_text()), **duration(folder / "run")}
    row["processors"] = common.noted_processors(folder)
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    about = dict(metrics["about"])
    row |= {"cases": metrics["foreground"]["n"], "device": about["Device"], "versions": about["Versions"]}
    row["dice"] = {
        name: {"mean": values["measures"]["Dice"]["mean"], "ci": values["measures"]["Dice"]["ci"]}
        for name, values in metrics["classes"].items()
    }
    cases = {case["case"]: case for case in metrics["metric_per_case"]}
    values = [str(value) for value in range(1, len(CLASSES) + 1)]
    row["case_dice"] = {
        name: mean(case["metrics"][value]["Dice"] for value in values) for name, case in sorted(cases.items())
    }
    row["mean"] = mean(row["case_dice"].values())
    if peer and all(name in peer for name in row["case_dice"]):
        row["peer"] = {name: peer[name] for name in row["case_dice"]}
    return row


def difference(rows: list[dict]) -> str:
    """The mean of the cases' Dice less that of nnU-Net, with its interval; empty where it isn't known."""
    from scripts.report.summary import intervals

    pairs = [(row["case_dice"][name], row["peer"][name]) for row in rows for name in row.get("peer", {})]
    if not pairs or any("peer" not in row for row in rows):
        return ""
    apart = np.array([ours - theirs for ours, theirs in pairs])
    low, high = intervals(apart[:, None, None], range(len(apart)))[0][0] or (math.nan, math.nan)
    return f"{apart.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| | cases | anterior Dice | posterior Dice | mean | nnU-Net v1 | difference | epochs | training |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cost = f"{row['epochs']} | {row['seconds'] / 60:.0f} min"
        shown = " | ".join(f"{d['mean']:.4f} ({d['ci'][0]:.3f} to {d['ci'][1]:.3f})" for d in row["dice"].values())
        lines.append(f"| {row['part']} | {row['cases']} | {shown} | {row['mean']:.4f} | {peers_of([row])} | {cost} |")
    if len(rows) > 1:
        means = " | ".join(f"{mean(row['dice'][name]['mean'] for row in rows):.4f}" for name in CLASSES)
        total = mean(row["mean"] for row in rows)
        lines.append(f"| mean of {len(rows)} folds | | {means} | {total:.4f} | {peers_of(rows)} | | |")
    for name, (front, back) in PUBLISHED.items():
        lines.append(f"| {name}, as published | | {front} | {back} | {mean((front, back)):.4f} | | | | |")
    return "\n".join(lines)


def peers_of(rows: list[dict]) -> str:
    """Two cells: the mean of nnU-Net's Dice, and ours less it."""
    found = difference(rows)
    return f"{mean(mean(row['peer'].values()) for row in rows):.4f} | {found}" if found else " | "


def join_networks(given: argparse.Namespace, rows: list[dict]) -> None:
    """Leaves the networks of all folds as one ensemble, and what all cases say of it."""
    from scripts.data.plausibility import training_ranges
    from scripts.inference.ensemble import join

    listed = datalist(given.data, PARTS[0])
    cases = [entry | {"label": str(given.data / entry["label"])} for entry in listed["training"] + listed["validation"]]
    count, names = len(cases), listed["class_names"]
    trained_on = f"{SOURCE}, {count} cases: each of {len(PARTS)} networks on all folds but its own"
    files = [given.output / part / "models" / "model.pt" for part in PARTS]
    joined = given.output / "models" / "hippocampus.json"
    score = mean(row["mean"] for row in rows)
    join(files, joined, trained_on=trained_on, ranges=training_ranges(cases, names, 1), score=score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=common.with_folds, help="folder with imagesTr, labelsTr and folds.json")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=150, help="that this call may take; 150 by default")
    parser.add_argument("--output", type=Path, default=DEMO / "hippocampus")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", nargs="*", type=common.assignment, default=[], metavar="NAME=VALUE", help="overrides of the training"
    )
    given = parser.parse_args()
    given.options = dict(given.set)
    given.output = given.output.resolve()
    deadline = time.monotonic() + 60 * given.minutes
    whole = all(time.monotonic() < deadline and work(part, given, deadline) for part in given.parts)
    file = given.data / PEER
    peer = json.loads(file.read_text()) if file.is_file() else {}
    rows = [
        outcome(part, given.output / part, peer)
        for part in PARTS
        if (given.output / part / "run" / "metrics.json").is_file()
    ]
    if len(rows) == len(PARTS):
        join_networks(given, rows)
    text = table(rows) + "\n\nMean Dice of the cases, its 95 % interval. Research use only.\n"
    leave(rows, text, given.output / "hippocampus")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
