"""Trains every recipe on phantoms, scores it on patients that training has not seen, and segments them.

    make recipes                                   # all, half an hour on two cores
    python benchmarks/recipes.py recipe_lgg_2d     # or only some

The sizes and epochs of a recipe are for a GPU and real data; `RECIPES` contains everything that a short run changes.
Each command is printed as one would type it. A recipe that is already trained is not trained again, an interrupted one
continues, and one whose settings have changed starts again. The table is written to demo/recipes as recipes.md and
recipes.json. The exit status is 1 if a recipe failed or stayed below `ENOUGH`.
"""

import argparse
import csv
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from trainings import DEMO, execute

HERE = DEMO / "recipes"
ENOUGH = 0.8  # mean foreground Dice
PELVIS = ["background", "body", "bones", "bladder", "rectum", "prostate"]  # classes of the phantoms of the pelvis


@dataclass(frozen=True)
class Recipe:
    """The changes that make a recipe small enough for two cores.

    Args:
        task: a few words for the table.
        phantoms: arguments of `scripts.phantom`.
        network: overrides of training, evaluation and inference.
        training: overrides of training only.
        split: the split that is scored. If it is validation, it was also used to choose the weights.
    """

    task: str
    phantoms: str
    network: dict
    training: dict
    split: str = "test"


RECIPES = {
    "recipe_hipmri_residual_attention": Recipe(
        task="male pelvis, 3D",
        phantoms='--layout hipmri --patients 30 --scans 2 --size "(64,64,32)" --seed 0',
        network={"spatial_size": [56, 56, 28], "widths": [16, 32, 64]},
        training={"epochs": 14, "learning_rate": 0.004, "lr_decay": 0.85, "val_interval": 2}
        | {"rotate_range": 0.05, "crop_share": 0.98, "elastic_shift": 0.005},
    ),
    "recipe_hipmri_2d": Recipe(
        task="male pelvis, sagittal slices",
        phantoms='--layout keras_slices --patients 20 --scans 2 --size "(64,64,32)" --slices 32 --seed 0',
        network={"spatial_size": [64, 32], "widths": [16, 32, 64, 128], "norm": "batch"},
        training={"epochs": 36, "learning_rate": 0.004, "lr_decay": 0.92, "val_interval": 4, "slices_per_scan": 8},
    ),
    "recipe_cardiac_2d": Recipe(
        task="heart, single slices",
        phantoms='--layout cardiac_png --patients 180 --scans 1 --size "(64,64)" --seed 0',
        network={"spatial_size": [64, 64], "widths": [16, 32, 64, 128, 256]},
        training={"epochs": 40, "batch_size": 2, "learning_rate": 0.005, "lr_decay": 0.95, "val_interval": 5},
        split="validation",  # the test pictures have no masks
    ),
    "recipe_hippocampus": Recipe(
        task="male pelvis, 3D, not resized",
        phantoms='--layout decathlon --patients 30 --scans 2 --size "(48,48,32)" --seed 0',
        network={
            "class_names": PELVIS,
            "window_size": [48, 48, 32],
            "spatial_size": [40, 40, 32],
            "features": 8,
        },
        training={"epochs": 20, "learning_rate": 0.004, "lr_decay": 0.88, "val_interval": 4},
    ),
    "recipe_promise12": Recipe(
        task="male pelvis, 3D, a plan",
        phantoms='--layout decathlon --patients 30 --scans 2 --size "(64,64,32)" --seed 0',
        network={
            "class_names": PELVIS,
            "kept_share": [1.0, 1.0, 1.0],
            "spatial_size": [64, 64, 32],
            "features": 8,
        },
        training={"epochs": 14, "val_interval": 2, "test_share": 0.15},
    ),
    "recipe_lgg_2d": Recipe(
        task="brain tumour, slices of three channels",
        phantoms='--layout lgg_tiff --patients 60 --size "(64,64)" --seed 0',
        network={"spatial_size": [64, 64], "widths": [16, 32, 64, 128]},
        training={"epochs": 15, "learning_rate": 0.003, "lr_decay": 0.88, "val_interval": 3, "slices_per_scan": 8},
    ),
}


def commands(name: str) -> dict[str, str]:
    """The four commands of a recipe as one would type them in bundle/."""
    recipe, folder = RECIPES[name], f"../demo/recipes/{name}"
    paths = f"--output_dir {folder}/run --ckpt_dir {folder}/models"
    network = options(recipe.network)

    def run(what: str, *files: str) -> str:
        listed = ",".join(f"'configs/{file}.json'" for file in (*files, name))
        return f'python -m monai.bundle run {what} --config_file "[{listed}]" --num_workers 0'

    return {
        "make phantoms": f"python -m scripts.phantom --output_dir {folder}/phantoms {recipe.phantoms}",
        "train": f"{run('training', 'train')} --dataset_dir {folder}/phantoms {paths} {network} "
        f"{options(recipe.training)} --resume True",
        "evaluate": f"{run('evaluating', 'train', 'evaluate')} --dataset_dir {folder}/phantoms {paths} {network}"
        + (f" --split {recipe.split}" if recipe.split != "test" else ""),
        "infer": f"{run('inference', 'inference')} --dataset_dir {folder}/run/datalist.json "
        f"--output_dir {folder}/predictions --ckpt_dir {folder}/models {network}",
    }


def options(overrides: dict) -> str:
    quoted = {key: f'"{value}"' if isinstance(value, list) else value for key, value in overrides.items()}
    return " ".join(f"--{key} {value}" for key, value in quoted.items())


def work(name: str) -> str | None:
    """Runs a recipe's commands; returns the one that failed."""
    folder, made = HERE / name, commands(name)
    begin(folder, "\n".join([made["make phantoms"], made["train"], ""]))
    for step, command in made.items():
        once, done = step in ("make phantoms", "train"), folder / f"{step.split()[-1]}.done"
        if once and done.exists():
            print(f"\n== {name}: {step}: done before")
        elif not execute(f"{name}: {step}", command):
            print(f"   to begin it anew: rm -r {folder.relative_to(DEMO.parent)}")
            return step
        elif once:
            done.touch()
    return None


def begin(folder: Path, settings: str) -> None:
    """Empties a recipe's folder, unless its contents were made with the same settings."""
    record = folder / "settings.txt"
    if record.is_file() and record.read_text() == settings:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record.write_text(settings)


def outcome(name: str, task: str, folder: Path, split: str = "test") -> dict:
    """Reads the results of a recipe from the folders `run` and `predictions`."""
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    inferred = json.loads((folder / "predictions" / "metrics.json").read_text())
    with (folder / "run" / "history.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    about, total = dict(metrics["about"]), metrics["foreground"]
    return {
        "recipe": name,
        "task": task,
        "parameters": int(re.search(r"([\d,]+) parameters", about["Model"])[1].replace(",", "")),
        "epochs": int(epochs[-1]["epoch"]),
        "training_seconds": round(sum(float(epoch["seconds"]) for epoch in epochs)),
        "split": split,
        "dice": total["mean"],
        "ci": total["ci"],
        "classes": {name: found["measures"]["Dice"]["mean"] for name, found in metrics["classes"].items()},
        "patients": total["patients"],
        "scans": total["n"],
        "seconds_a_case": median(case["seconds"] for case in inferred["metric_per_case"]),
        "report": (folder / "run").relative_to(DEMO.parent).as_posix(),
        "versions": about["Versions"],
        "device": about["Device"],
    }


def good(row: dict) -> bool:
    return row.get("dice", 0) >= ENOUGH


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| recipe | task | parameters | epochs | training | split | mean Dice | its 95 % interval | patients (scans) "
        "| inference a case | report |",
        "|---|---|---:|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['recipe']} | {row['task']} | | | | | failed: {row['failed']} | | | | |")
            continue
        dice = f"{row['dice']:.3f}" + ("" if good(row) else f" (below {ENOUGH})")
        low, high = row["ci"]
        lines.append(
            f"| {row['recipe']} | {row['task']} | {row['parameters']:,} | {row['epochs']} "
            f"| {row['training_seconds'] / 60:.1f} min | {row['split']} | {dice} | {low:.3f} to {high:.3f} "
            f"| {row['patients']} ({row['scans']}) | {row['seconds_a_case']:.2f} s | {row['report']} |"
        )
    return "\n".join(lines)


def results(failed: dict[str, str | None]) -> list[dict]:
    """A row for `make demo`, where it was run, and for each recipe that was run now or before."""
    rows = []
    if all((DEMO / kind / "metrics.json").is_file() for kind in ("run", "predictions")):
        rows.append(outcome("train, demo", "male pelvis, 3D", DEMO))
    for name, recipe in RECIPES.items():
        if failed.get(name):
            rows.append({"recipe": name, "task": recipe.task, "failed": failed[name]})
        elif name in failed or (HERE / name / "predictions" / "metrics.json").is_file():
            rows.append(outcome(name, recipe.task, HERE / name, recipe.split))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(RECIPES)}; by default all")
    names = parser.parse_args().recipes or list(RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"{unknown[0]}: expected one of {', '.join(RECIPES)}")
    failed = {}
    for name in names:
        failed[name] = work(name)
    rows = results(failed)
    text = table(rows) + "\n\nSynthetic phantoms of patients that training has not seen. Research use only.\n"
    (HERE / "recipes.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    (HERE / "recipes.md").write_text(text)
    print(f"\n{text}written: {HERE / 'recipes.md'}, recipes.json beside it; report.html lies in each report's folder")
    sys.exit(not all(good(row) for row in rows if row["recipe"] in names))


if __name__ == "__main__":
    main()
