"""The gain of each step of configs/strong.json, and of other steps, measured by short trainings on the hippocampus.

    python benchmarks/strong_steps.py DATA [--only NAME ...] [--epochs 8] [--output DIR]

DATA is the same folder as for hippocampus.py. Every run differs from the first, `strong`, in one setting; it has the
same length and the same seed. `seed` differs only in the seed and shows the effect of chance. The last two train
nothing: they score existing weights in another way. All are scored on fold 1, so that the other folds do not influence
the choice of steps. Differences are taken case by case, and their intervals are bootstraps over cases. An interrupted
run continues; a finished one is not repeated. The table is written to strong_steps.md and strong_steps.json.
"""

import argparse
import json
import sys
from copy import deepcopy
from pathlib import Path

from hippocampus import CLASSES, RECIPE, command, datalist, duration, leave
from recipes import BUNDLE, DEMO, execute

FOLD = "fold1"
INTENSITY = ("RandGaussianSmoothd", "RandSimulateLowResolutiond", "RandScaleIntensityd", "RandAdjustContrastd")
KEYS = ["image", "label"]


def read(name: str) -> dict:
    return json.loads((BUNDLE / "configs" / f"{name}.json").read_text())


def chain(without: tuple = (), instead: dict | None = None) -> dict:
    """The random chain of strong.json without some transforms, or with other transforms in place of some."""
    made = []
    for step in deepcopy(read("strong")["random_chain"]):
        name = step["_target_"]
        made += (instead or {}).get(name, [step] if name not in without else [])
    return {"random_chain": made}


def affine(**changes) -> dict:
    return next(s for s in deepcopy(read("strong")["random_chain"]) if s["_target_"] == "RandAffined") | changes


ELASTIC = {
    "_target_": "Rand3DElasticd", "keys": KEYS, "sigma_range": [5, 7], "magnitude_range": [100, 300], "prob": 0.3,
    "mode": ["bilinear", "nearest"], "padding_mode": "border",
}  # fmt: skip
CROP = {"_target_": "RandSpatialCropd", "keys": KEYS, "roi_size": "@spatial_size", "random_size": False}
FLIPS = [{"_target_": "RandFlipd", "keys": KEYS, "spatial_axis": axis, "prob": 0.5} for axis in range(3)]
ONE_HOT = {"_target_": "AsDiscreted", "keys": "label", "to_onehot": "$len(@class_names)"}
LARGEST = {"_target_": "AsDiscreted", "keys": "label", "argmax": True}
HELD = {"lr_scheduler": read("strong")["lr_scheduler"] | {"end_lr": "$0.5 * @learning_rate"}}
STEPS = {  # what is changed, and the patch that does it
    "strong": ("as it is", {}),
    "seed": ("another seed", {"seed": 1}),
    "schedule": (
        "Adam and an exponential decay, as in train.json",
        {
            "optimizer": read("train")["optimizer"],
            "lr_scheduler": read("train")["lr_scheduler"],
            "schedule_by_epoch": True,
            "learning_rate": 0.001,
            "lr_decay": 0.7,
            "weight_decay": 1e-5,
        },
    ),
    "epochs": (
        "the rate changed after an epoch, not an iteration",
        {"schedule_by_epoch": True, "iterations": "@epochs"},
    ),
    "pairs": ("batches of two", {"batch_size": 2}),
    "averaging": ("no average of the weights", {"averaging": None, "averaged": "@network"}),
    "augmentation": ("rotation, mirror images and noise alone", {"random_chain": read(RECIPE[0])["random_chain"]}),
    "intensity": ("no blur, low resolution, brightness, contrast", chain(INTENSITY)),
    "affine": ("rotation and scaling of 8 cases in 10, not 3", {"affine_probability": 0.8}),
    "labels": (
        "labels interpolated class by class, not the nearest",
        chain(
            without=("RandFlipd",),
            instead={"RandAffined": [FLIPS[0], ONE_HOT, affine(mode="bilinear")], "RandSpatialCropd": [CROP, LARGEST]},
        ),
    ),
    "elastic": ("elastic deformation", chain(instead={"RandAffined": [ELASTIC, affine()]})),
    "mirrors": ("mirror images along all axes", chain(instead={"RandFlipd": FLIPS})),
    "deep": ("deep supervision: losses on maps of three levels", {"loss": read("losses")["deep_dice_ce"]}),
    "dropout": ("a fifth of the channels dropped", {"dropout": 0.2}),
    "whole": ("whole images in place of crops", {"spatial_size": [48, 64, 48]}),
    "width": ("half as wide again, 24 features", {"features": 24}),
    "rate": ("twice the learning rate", {"learning_rate": 0.004}),
    "held": ("a rate that ends at half, not at 0", HELD),
    "slow": ("the same, averaged over three times as many iterations", HELD | {"averaging_rate": 0.003}),
    "decay": ("the same, and 30 times the weight decay", HELD | {"averaging_rate": 0.003, "weight_decay": 0.3}),
    "wild": (
        "the same, and rotation and scaling of 6 cases in 10",
        HELD | {"averaging_rate": 0.003, "weight_decay": 0.3, "affine_probability": 0.6},
    ),
    "soft": (
        "the same, and soft borders of the labels",
        HELD
        | {"averaging_rate": 0.003, "weight_decay": 0.3}
        | {
            "loss": {
                "_target_": "scripts.training.losses.SoftBorders",
                "loss": read("train")["loss"] | {"to_onehot_y": False},
            }
        },
    ),
}
SCORED = {  # what is scored in another way: trainings of the above, patches, overrides
    "single": ("no mirror image at the test", ["strong"], [], {"mirror_axes": "[]"}),
    "ensemble": ("scores averaged with those of the other seed", ["strong", "seed"], ["ensemble"], {}),
}


def work(name: str, given: argparse.Namespace) -> bool:
    """Trains with a step, if it changes the training, and scores it."""
    folder, data = given.output / name, {"dataset_dir": given.data.resolve()}
    folder.mkdir(parents=True, exist_ok=True)
    if name in STEPS:
        patch = STEPS[name][1]
        file, text = folder / "step.json", json.dumps(patch | {"epochs": given.epochs}, indent=1)
        if file.is_file() and file.read_text() != text:
            sys.exit(f"{folder}: made with other settings; move it away")
        file.write_text(text)
        length = {"keep_last": True, "val_interval": min(5, given.epochs)}
        train = command("training", ["train", *RECIPE, "strong", file], folder, "run", data | length, "--resume True")
        patches, options = [], {"features": patch["features"]} if "features" in patch else {}
    else:
        _, used, patches, options = SCORED[name]
        members = [str(given.output / step / "models" / "model.pt") for step in used]
        train, options = None, options | ({"members": members} if len(members) > 1 else {"weights_file": members[0]})
    (folder / "datalist.json").write_text(json.dumps(datalist(given.data, FOLD), indent=1) + "\n")
    files = ["train", "evaluate", *RECIPE, *patches]
    evaluate = command("evaluating", files, folder, "run", data | options, "--split validation")
    return (folder / "run" / "metrics.json").is_file() or (
        (not train or execute(f"{name}: train", train)) and execute(f"{name}: score", evaluate)
    )


def outcome(name: str, given: argparse.Namespace) -> dict:
    """Reads the result of a run, and computes its difference from the first."""
    from scripts.report.comparison import compare

    folder = given.output / name / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    row = {"step": name, "what": (STEPS | SCORED)[name][0], "cases": metrics["foreground"]["n"]}
    row |= duration(folder) if name in STEPS else {}
    row["dice"] = {c: metrics["classes"][c]["measures"]["Dice"]["mean"] for c in CLASSES}
    if name != "strong":
        found = compare([str(given.output / "strong" / "run"), str(folder)])["foreground"]["differences"][0]
        row["difference"] = {"mean": found["mean"], "ci": found["ci"]}
    return row


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| what is changed | anterior Dice | posterior Dice | mean, less that of the first row |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        found = row.get("difference")
        shown = "" if not found else f"{found['mean']:+.4f} ({found['ci'][0]:+.4f} to {found['ci'][1]:+.4f})"
        lines.append(f"| {row['what']} | {row['dice']['anterior']:.4f} | {row['dice']['posterior']:.4f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with imagesTr, labelsTr and folds.json")
    parser.add_argument("--only", nargs="+", choices=[*STEPS, *SCORED], default=[*STEPS, *SCORED])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output", type=Path, default=DEMO / "strong_steps")
    given = parser.parse_args()
    given.output = given.output.resolve()
    whole = all([work(name, given) for name in given.only])
    done = [name for name in (*STEPS, *SCORED) if (given.output / name / "run" / "metrics.json").is_file()]
    if "strong" not in done:
        sys.exit("no table without the first row, `strong`, that all others are compared with")
    rows = [outcome(name, given) for name in done]
    leave(rows, table(rows) + "\n", given.output / "strong_steps")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
