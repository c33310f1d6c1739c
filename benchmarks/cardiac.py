"""Hearts in short-axis MR (96x96 pictures, four classes): trains recipes by folds of patients, then on all pictures.

    python benchmarks/cardiac.py DATA [--only NAME ...] [--folds 5] [--fold 0 1 ...] [--minutes 150]
    python benchmarks/cardiac.py DATA --final NAME

DATA holds `train` and `val`, with image/cmrN.png and mask/cmrN_mask.png in each; an odd number and the next one are two
heart phases of one patient. The first command trains the recipes of `RECIPES` on the pictures of `train` without those
of a fold, and scores them on these: the settings and the number of epochs are chosen by this table alone. The second
one takes the chosen recipe, trains networks on all pictures of `train`, and scores them on `val`: one network, the mean
of all these networks, and the mean of the networks of the folds. No training sees `val`, and each keeps its last epoch.
What was stopped, or is out of its minutes, goes on when the same command is given again. The tables are left in
demo/cardiac as cardiac.md and cardiac.json; rows whose trainings are not there any more stay in them. Research use
only.
"""

import argparse
import re
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

from common import present
from results import leave, with_earlier
from slice_folds import (
    Study,
    Variant,
    between,
    compared,
    costs,
    difference,
    divide,
    folder_of,
    is_scored,
    on_processors,
    score,
    summary,
    train,
    write_datalist,
)
from trainings import DEMO, command, execute

PUBLISHED = ("its authors, on test pictures of their own", "0.876")
DESCRIPTION = "hearts in short-axis MR, cut from ACDC (Bernard et al. 2018)"
CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
NARROW, WIDE = ({"widths": [width * 2**level for level in range(5)]} for width in (16, 32))
ONE_HAND = {"flip_probability": 0.0}  # the right ventricle is on the left of every picture of train
RECIPES = {  # the first one is what the others are compared with
    "narrow": Variant("16 to 256 channels, no mirror images", NARROW, ONE_HAND | {"epochs": 20}),
    "mirrors": Variant("mirror images", NARROW, {"epochs": 20, "flip_probability": 0.5}),
    "long": Variant("twice the epochs", NARROW, ONE_HAND | {"epochs": 40}),
    "wide": Variant("32 to 512 channels", WIDE, ONE_HAND | {"epochs": 20}),
    "turned": Variant("rotation of 1 rad, not 0.5", NARROW, ONE_HAND | {"epochs": 20, "rotate_range": 1.0}),
    "batch": Variant(
        "Dice over the batch", NARROW, ONE_HAND | {"epochs": 20, "loss": "%configs/losses.json::batch_dice_ce"}
    ),
    "wide_long": Variant("32 to 512 channels, twice the epochs", WIDE, ONE_HAND | {"epochs": 40}),
}
FINAL = ("final0", "final1", "final2")  # networks on all pictures, of as many seeds


def cases_of(data: Path, split: str) -> list[dict]:
    """Pictures of a split; the two phases of a patient are of one patient."""
    from scripts.data.layouts import find_pairs

    entries = [entry for entry in find_pairs(str(data)) if entry["image"].startswith(f"{split}/")]
    if not entries:
        sys.exit(f"{data}: no pictures in {split}/image, expected cmr1.png and more; correct the path")
    return [entry | {"patient": patient_of(entry["image"])} for entry in entries]


def patient_of(image: str) -> str:
    number = int(re.search(r"(\d+)\.png$", image)[1])
    return f"heart{(number + 1) // 2:03}"


def work(study: Study, name: str, fold: int, given: argparse.Namespace, deadline: float) -> bool:
    """Trains and scores a recipe on one fold; returns whether that is done."""
    folder = folder_of(name, fold, given.folds)
    splits = divide(cases_of(study.data, "train"), given.folds, fold)
    write_datalist(study, study.output / folder, splits)
    done = train(study, folder, RECIPES[name], deadline)
    return done and score(study, folder, RECIPES[name], "validation", deadline)


def finish(study: Study, name: str, given: argparse.Namespace, deadline: float) -> bool:
    """Trains the networks on all pictures of `train`, and scores them on `val`; returns whether that is done."""
    splits = {"training": cases_of(study.data, "train"), "test": cases_of(study.data, "val")}
    for seed, part in enumerate(FINAL):
        folder = f"{name}/{part}"
        write_datalist(study, study.output / folder, splits)
        if not train(replace(study, seed=study.seed + seed), folder, RECIPES[name], deadline):
            return False
    return all(score_members(study, name, *one, deadline) for one in members_of(study, name, given.folds).items())


def members_of(study: Study, name: str, folds: int) -> dict[str, list[Path]]:
    """What is scored on `val`: the folder of the report, and the weights of the networks that are averaged."""
    scored = {"val_one": FINAL[:1], "val_seeds": FINAL, "val_folds": [f"{fold}of{folds}" for fold in range(folds)]}
    files = {
        out: [study.output / name / part / "models" / "model.pt" for part in parts] for out, parts in scored.items()
    }
    return {out: weights for out, weights in files.items() if all(file.is_file() for file in weights)}


def score_members(study: Study, name: str, out: str, members: list[Path], deadline: float) -> bool:
    folder = study.output / name / FINAL[0]
    options = {"dataset_dir": study.data, "members": [str(file) for file in members]} | RECIPES[name].network
    files: list[str | Path] = ["train", "evaluate", study.recipe, "ensemble"]
    line = command("evaluating", files, folder, out, options, "--split test")
    return is_scored(folder / out) or execute(f"{name}: score, {out}", line, deadline)


def outcomes(study: Study, folds: int) -> list[dict]:
    """A row for each recipe that is scored on a fold or more, and the rows of `val`."""
    rows = compared(study, RECIPES, folds)
    pictures = len(cases_of(study.data, "train"))
    said = {
        "val_one": f"one network, trained on {pictures} pictures",
        "val_seeds": f"the mean of {len(FINAL)} such networks",
        "val_folds": f"the mean of the {folds} networks of the folds",
    }
    for name, out in product(RECIPES, said):
        folder = f"{name}/{FINAL[0]}"
        if is_scored(study.output / folder / out):
            row = {"name": f"{name}/{out}", "what": f"{RECIPES[name].what}: {said[out]}", "val": True}
            rows.append(row | summary([study.output / folder / out]) | costs(study, [folder], out))
    return [{"val": False} | row for row in rows]


def table(rows: list[dict]) -> str:
    """The results in Markdown: recipes on the folds, and then the pictures that chose nothing."""
    folds = [row for row in rows if not row["val"]]
    parts = [part(folds, "what is changed, scored on the folds of `train`")] if folds else []
    if scored := [row for row in rows if row["val"]]:
        what, mean = PUBLISHED
        gap = " |" * len(CLASSES)
        parts.append(f"{part(scored, 'scored on `val`')}\n| {what} |{gap} {mean} | | | |")
    return "\n\n".join([*parts, on_processors(rows)] if rows else [])


def part(rows: list[dict], title: str) -> str:
    lines = [
        f"| {title} | pictures | {' | '.join(CLASSES[1:])} | mean Dice | less the first row, same pictures | epochs "
        "| a training |",
        "|---|---:|" + "---:|" * (len(CLASSES) + 3),
    ]
    for row in rows:
        classes = " | ".join(f"{dice:.3f}" for dice in row["classes"])
        lines.append(
            f"| {row['what']} | {row['cases']} | {classes} | {between(row['dice'])} | {difference(row)} "
            f"| {row['epochs']} | {row['minutes']:.0f} min |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=present, help="folder with train and val")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    parser.add_argument(
        "--final", choices=RECIPES, metavar="NAME", help="the chosen recipe: train it on all, score val"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--fold", type=int, nargs="+", help="some of the folds; by default all")
    parser.add_argument("--minutes", type=float, default=150, help="that this call may take; 150 by default")
    parser.add_argument("--output", type=Path, default=DEMO / "cardiac")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    study = Study(given.data.resolve(), given.output.resolve(), "recipe_cardiac_2d", DESCRIPTION, CLASSES, given.seed)
    deadline = time.monotonic() + 60 * given.minutes
    if given.final:
        whole = finish(study, given.final, given, deadline)
    else:
        todo = product(given.fold or range(given.folds), given.only)
        whole = all(time.monotonic() < deadline and work(study, name, fold, given, deadline) for fold, name in todo)
    rows = with_earlier(outcomes(study, given.folds), study.output / "cardiac.json", lambda row: row["name"])
    text = table(rows) + "\n\nMean Dice of the pictures, its 95 % interval over patients. Research use only.\n"
    leave(rows, text, study.output / "cardiac")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
