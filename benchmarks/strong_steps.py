"""The gain of each step of configs/strong.json, and of other steps, measured by short trainings on the hippocampus.

    python benchmarks/strong_steps.py DATA [--only NAME ...] [--epochs 8] [--output DIR]

DATA is the same folder as for hippocampus.py. Every run differs from the first, `strong`, in one setting; it has the
same length and the same seed. `seed` differs only in the seed and shows the effect of chance. The last two train
nothing: they score weights that are there in another way. All are scored on fold 1, so that the other folds do not
influence the choice of steps. Differences are taken case by case, and their intervals are bootstraps over cases. An
interrupted run continues; a finished one is not repeated. The table is written to strong_steps.md and
strong_steps.json; rows whose trainings are not there any more stay in them. A row with `"earlier": true` is of an
earlier form of the recipe, and is compared with its first row of that time.
"""

import argparse
import json
import sys
from operator import itemgetter
from pathlib import Path

import common
from common import BUNDLE
from hippocampus import CLASSES, RECIPE, datalist
from results import leave, with_earlier
from trainings import ALONE, DEMO, command, duration, execute

FOLD = "fold1"
KEYS = ["image", "label"]


def read(name: str) -> dict:
    return json.loads((BUNDLE / "configs" / f"{name}.json").read_text())


def name_of(step: dict | str) -> str:
    """The name of a step, or the id of those that stand elsewhere."""
    return step if isinstance(step, str) else step["_target_"]


def chain(without: tuple = (), instead: dict | None = None) -> dict:
    """The random chain of strong.json without some transforms, or with other transforms in place of some."""
    made: list = []
    for step in read("strong")["random_chain"]:
        made += (instead or {}).get(name_of(step), [step] if name_of(step) not in without else [])
    return {"random_chain": made}


def affine(**changes) -> dict:
    return next(s for s in read("strong")["random_chain"] if name_of(s) == "RandAffined") | changes


ELASTIC = {
    "_target_": "Rand3DElasticd", "keys": KEYS, "sigma_range": [5, 7], "magnitude_range": [100, 300], "prob": 0.3,
    "mode": ["bilinear", "nearest"], "padding_mode": "border",
}  # fmt: skip
CROP = {"_target_": "RandSpatialCropd", "keys": KEYS, "roi_size": "@spatial_size", "random_size": False}
FLIPS = [{"_target_": "RandFlipd", "keys": KEYS, "spatial_axis": axis, "prob": 0.5} for axis in range(3)]
ONE_HOT = {"_target_": "AsDiscreted", "keys": "label", "to_onehot": "$len(@class_names)"}
LARGEST = {"_target_": "AsDiscreted", "keys": "label", "argmax": True}
FALLS = {name: value for name, value in read("strong")["lr_scheduler"].items() if name != "end_lr"}
CHANNELS = [f"image_{number}" for number in range(4)]


def position() -> dict:
    """Three more channels, which tell a voxel's place in the crop; the changes of intensity pass them by."""
    recipe, strong = read(RECIPE[0]), read("strong")
    chain = recipe["deterministic_chain"]
    place = [step["_target_"] for step in chain].index("SpatialPadd")
    chain.insert(place, {"_target_": "AddCoordinateChannelsd", "keys": "image", "spatial_dims": [0, 1, 2]})
    for step in strong["early_changes"]["transforms"]:
        step["keys"] = CHANNELS[0]
    split = {"_target_": "SplitDimd", "keys": "image", "output_postfixes": ["0", "1", "2", "3"], "dim": 0}
    joined = [
        {"_target_": "ConcatItemsd", "keys": CHANNELS, "name": "image"},
        {"_target_": "SelectItemsd", "keys": KEYS},
    ]
    steps = strong["random_chain"]
    return {
        "deterministic_chain": chain,
        "early_changes": strong["early_changes"],
        "random_chain": [*steps[:-2], split, steps[-2], *joined, steps[-1]],
        "network_def": recipe["network_def"] | {"in_channels": 4},
    }


STEPS = {  # what is changed, and the patch that does it
    "strong": ("as it is", {}),
    "seed": ("another seed", {"seed": 1}),
    "hands": (
        "mirror images of left and right, in training and at the test",
        {"flip_probability": 0.5, "mirror_axes": [0]},
    ),
    "mirrors": ("mirror images along all axes, in training", chain(instead={"RandFlipd": FLIPS})),
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
    "falls": ("a rate that falls to 0", {"lr_scheduler": FALLS}),
    "rate": ("twice the learning rate", {"learning_rate": 0.004}),
    "decay": ("a thirtieth of the weight decay", {"weight_decay": 0.01}),
    "pairs": ("batches of two", {"batch_size": 2}),
    "averaging": ("no average of the weights", {"averaging": None, "averaged": "@network"}),
    "augmentation": (
        "rotation and noise alone",
        {"random_chain": read(RECIPE[0])["random_chain"], "early_changes": None},
    ),
    "intensity": ("no blur, low resolution, brightness, contrast, noise", {"early_share": 0.0}),
    "throughout": ("blur, low resolution, brightness, contrast, noise to the end", {"early_share": 1.0}),
    "affine": ("rotation and scaling of 8 cases in 10, not 3", {"affine_probability": 0.8}),
    "elastic": ("elastic deformation", chain(instead={"RandAffined": [ELASTIC, affine()]})),
    "labels": (
        "labels interpolated class by class, not the nearest",
        chain(
            without=("RandFlipd",),
            instead={"RandAffined": [ONE_HOT, affine(mode="bilinear")], "RandSpatialCropd": [CROP, LARGEST]},
        ),
    ),
    "position": ("three channels with the place in the crop", position()),
    "entropy": ("three times the weight of the cross-entropy", {"ce_weight": 3.0}),
    "deep": ("deep supervision: losses on maps of three levels", {"loss": read("losses")["deep_dice_ce"]}),
    "dropout": ("a fifth of the channels dropped", {"dropout": 0.2}),
    "width": ("half as wide again, 24 features", {"features": 24}),
}
SCORING = ("features", "mirror_axes", "deterministic_chain", "network_def")  # what the test needs of a patch
SCORED = {  # what is scored in another way: trainings of the above, patches, overrides
    "padded": ("windows of 48x64x48 at the test", ["strong"], [], {"window_size": "[48, 64, 48]"}),
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
        common.note_processor(folder)
        length = {"keep_last": True, "val_interval": min(5, given.epochs)}
        options = data | length
        train = command("training", ["train", *RECIPE, "strong", file], folder, "run", options, "--resume True", ALONE)
        patches, options = [folder / "scored.json"], {}
        patches[0].write_text(json.dumps({name: patch[name] for name in SCORING if name in patch}, indent=1))
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
    row["processors"] = common.noted_processors(folder.parent)
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
        mark = " \\*" if row.get("earlier") else ""
        lines.append(
            f"| {row['what']}{mark} | {row['dice']['anterior']:.4f} | {row['dice']['posterior']:.4f} | {shown} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=common.with_folds, help="folder with imagesTr, labelsTr and folds.json")
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
    rows = with_earlier(rows, given.output / "strong_steps.json", itemgetter("step"))
    rows.sort(key=lambda row: [*STEPS, *SCORED].index(row["step"]))
    leave(rows, table(rows) + "\n", given.output / "strong_steps")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
