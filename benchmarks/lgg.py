"""Brain tumours (LGG collection, brain MR in three channels): trains recipes, networks and losses by folds of patients.

    python benchmarks/lgg.py DATA [--only NAME ...] [--folds 5] [--fold 0 1 ...] [--minutes 150]
    python benchmarks/lgg.py DATA --table [--minutes_each 10] [--folds 3]

DATA is the folder `kaggle_3m`, one folder a patient. The first command trains the recipes of `RECIPES` on all patients
but those of a fold, and scores them on these. The second one compares all networks of `NETWORKS` with all losses of
`LOSSES` at equal time: a step of each network is timed first, and it gets as many epochs as fit into the minutes, so
that each learning rate comes down to 0. It takes the folds one after the other, each with all networks and losses.
Nothing is chosen on the patients of a fold: the last epoch is kept, the curve is for the eye. Patients of all folds are
pooled. What was stopped, or is out of its minutes, goes on when the same command is given again. The tables are left in
demo/lgg as lgg.md and lgg.json; rows whose trainings are not there any more stay in them. Research use only.
"""

import argparse
import sys
import time
from itertools import product
from pathlib import Path

from common import present
from results import leave
from slice_folds import (
    Study,
    Variant,
    between,
    compared,
    difference,
    divide,
    epochs_within,
    folder_of,
    in_order,
    on_processors,
    score,
    seconds_a_step,
    train,
    write_datalist,
)
from trainings import DEMO

PUBLISHED = ("U-Net of 256x256, cross-validated by patient, as published", 105, "0.836", "0.873")
DESCRIPTION = "lower-grade glioma in brain MR (LGG collection)"
CLASSES = ("background", "tumour")
FOLDS = {False: 5, True: 3}  # whether it is the table of networks and losses
SIZE = {"spatial_size": [128, 128]}
NARROW, WIDE = ({"widths": [width * 2**level for level in range(5)]} for width in (16, 32))
EPOCHS = {"epochs": 60, "contrast_range": [0.5, 2.0]}
BY_CHANCE = {
    "drawn_slices": {
        "_target_": "RandSpatialCropSamplesd", "keys": ["image", "label"], "roi_size": "$[*@spatial_size, 1]",
        "random_size": False, "num_samples": "@slices_per_scan",
    }
}  # fmt: skip
ALONE = {"neighbours": 0}
PUBLISHED_SETTINGS = ALONE | {
    "deterministic_chain::5": {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
    "norm": "batch",
}
CLIPPED = {  # the fat of the skull is then as bright in every patient
    "deterministic_chain::5": {
        "_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1, "upper": 98, "b_min": -1.0,
        "b_max": 2.0, "clip": True, "channel_wise": True,
    }
}  # fmt: skip
VARIED = {  # in place of strong_2d.json's RandScaleIntensityd
    "random_chain::8": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "RandScaleIntensityd", "keys": "image", "factors": 0.5, "channel_wise": True, "prob": 0.7},
            {"_target_": "RandShiftIntensityd", "keys": "image", "offsets": 0.5, "channel_wise": True, "prob": 0.7},
        ],
    }
}
FLAIR_ALONE = {
    "network_def::in_channels": 1,
    "deterministic_chain::5": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Lambdad", "keys": "image", "func": "$lambda image: image[[1]]"},
            {"_target_": "scripts.data.tissue.NormalizeTissued", "keys": "image"},
        ],
    },
}
FLAIR_BY_CHANCE = {  # in place of strong_2d.json's RandScaleIntensityd
    "random_chain::8": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "RandLambdad", "keys": "image", "func": "$lambda x: x[[1, 1, 1]]", "prob": 0.5},
            {"_target_": "RandScaleIntensityd", "keys": "image", "factors": 0.25, "channel_wise": True, "prob": 0.3},
        ],
    }
}
SCORED = {
    "mirrored": {"mirror_axes": [0]},
    "largest": {"keep_largest": True, "single_piece": ["tumour"]},
}
RECIPES = {  # the first one is what the others are compared with; the last one is the recipe
    "narrow": Variant(
        "batch norm, intensities by mean and spread, slices by chance",
        SIZE | NARROW | PUBLISHED_SETTINGS,
        BY_CHANCE | {"epochs": 60},
        SCORED,
    ),
    "wide": Variant(
        "the same, 32 to 512 channels", SIZE | WIDE | PUBLISHED_SETTINGS, BY_CHANCE | {"epochs": 24}, SCORED
    ),
    "tumour": Variant(
        "16 to 256 channels, half of the slices with tumour", SIZE | NARROW | PUBLISHED_SETTINGS, {"epochs": 60}, SCORED
    ),
    "tumour_robust": Variant(
        "the same, instance norm, brightest voxels clipped, wider changes of the contrast",
        SIZE | NARROW | ALONE | CLIPPED,
        EPOCHS,
        SCORED,
    ),
    "tumour_tissue": Variant("the same, intensities by the tissue", SIZE | NARROW | ALONE, EPOCHS, SCORED),
    "tissue_varied": Variant(
        "the recipe, 24 epochs, each channel brighter or darker",
        SIZE | NARROW,
        EPOCHS | VARIED | {"epochs": 24},
        SCORED,
    ),
    "tissue_flair": Variant(
        "intensities by the tissue, FLAIR alone, 24 epochs",
        SIZE | NARROW | ALONE | FLAIR_ALONE,
        EPOCHS | {"epochs": 24},
    ),
    "tissue_flair_chance": Variant(
        "intensities by the tissue, FLAIR in place of the other channels in half of the slices, 24 epochs",
        SIZE | NARROW | ALONE,
        EPOCHS | FLAIR_BY_CHANCE | {"epochs": 24},
    ),
    "tissue_stacked": Variant(
        "the recipe: intensities by the tissue, with the slices before and after", SIZE | NARROW, EPOCHS, SCORED
    ),
}
NETWORKS = {
    "unet_32": "U-Net 32",
    "residual_unet_32": "U-Net 32 with shortcuts",
    "resnext_unet": "U-Net with ResNeXt-50 encoder",
    "feature_pyramid": "feature pyramid",
}
LOSSES = {"batch_dice": "Dice", "batch_iou": "IoU", "sampled_bce": "cross-entropy of sampled pixels"}
CELLS = {
    f"{network}.{loss}": Variant(
        f"{NETWORKS[network]} | {LOSSES[loss]}",
        SIZE | ALONE | {"network_def": f"%configs/networks.json::{network}"},
        {"loss": f"%configs/losses.json::{loss}", "copies": 4, "averaging_rate": 0.05},
    )
    for network, loss in product(NETWORKS, LOSSES)
}


def work(study: Study, name: str, fold: int, given: argparse.Namespace, deadline: float) -> bool:
    """Trains and scores a recipe, or a network with a loss, on one fold; returns whether that is done."""
    variant, folder = (RECIPES | CELLS)[name], folder_of(name, fold, given.folds)
    splits = divide(given.entries, given.folds, fold)
    options = {}
    if name in CELLS:
        seconds = seconds_of(study, name, splits["training"])
        copies = variant.training["copies"]
        options = {"epochs": epochs_within(given.minutes_each, seconds, splits["training"], copies)}
    write_datalist(study, study.output / folder, splits)
    if not train(study, folder, variant, deadline, **options):
        return False
    return score(study, folder, variant, "validation", deadline)


def seconds_of(study: Study, name: str, entries: list[dict]) -> float:
    """Of a step of a network; the loss is hardly any of it, and all losses of a network get the same steps."""
    network = name.split(".")[0]
    return seconds_a_step(study, f"seconds/{network}", CELLS[f"{network}.{next(iter(LOSSES))}"], entries)


def table(rows: list[dict]) -> str:
    """The results in Markdown: the recipes, then the networks and losses."""
    parts = []
    if recipes := [row for row in rows if not row["cell"]]:
        lines = [
            "| what is changed | patients | mean Dice of a volume | median | mean with mirror images "
            "| mean of the largest pieces | less the first row, same patients | epochs | a training |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in recipes:
            more = " | ".join(f"{row[out]:.3f}" if out in row else "-" for out in SCORED)
            lines.append(
                f"| {row['what']} | {row['patients']} | {between(row['dice'])} | {row['dice']['median']:.3f} | {more} "
                f"| {difference(row)} | {row['epochs']} | {row['minutes']:.0f} min |"
            )
        what, patients, mean, middle = PUBLISHED
        lines.append(f"| {what} | {patients} | {mean} | {middle} | | | | | |")
        parts.append("\n".join(lines))
    if cells := [row for row in rows if row["cell"]]:
        lines = [
            "| network | loss | patients | mean Dice of a volume | less the first row, same patients | s a step "
            "| epochs | a training |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['what']} | {row['patients']} | {between(row['dice'])} | {difference(row)} "
            f"| {row['seconds_a_step']:.2f} | {row['epochs']} | {row['minutes']:.0f} min |"
            for row in cells
        ]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, on_processors(rows)] if rows else [])


def main() -> None:
    from scripts.data.layouts import find_pairs

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=present, help="folder with a folder for each patient")
    parser.add_argument("--table", action="store_true", help="all networks and losses at equal time, not the recipes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the recipes, or of the networks and losses")
    parser.add_argument("--folds", type=int, help="5 by default, 3 with --table")
    parser.add_argument("--fold", type=int, nargs="+", help="some of the folds; by default all")
    parser.add_argument("--minutes", type=float, default=150, help="that this call may take; 150 by default")
    parser.add_argument("--minutes_each", type=float, default=10, help="of a training of --table; 10 by default")
    parser.add_argument("--output", type=Path, default=DEMO / "lgg")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    known = CELLS if given.table else RECIPES
    if unknown := [name for name in given.only or () if name not in known]:
        parser.error(f"--only {unknown[0]}: expected some of {', '.join(known)}")
    given.folds = given.folds or FOLDS[given.table]
    given.entries = find_pairs(str(given.data.resolve()))
    study = Study(given.data.resolve(), given.output.resolve(), "recipe_lgg_2d", DESCRIPTION, CLASSES, given.seed)
    deadline = time.monotonic() + 60 * given.minutes
    todo = product(given.fold or range(given.folds), given.only or known)
    whole = all(time.monotonic() < deadline and work(study, name, fold, given, deadline) for fold, name in todo)
    folds = FOLDS | {given.table: given.folds}
    rows = [row | {"cell": False} for row in compared(study, RECIPES, folds[False])]
    rows += [
        row | {"cell": True, "seconds_a_step": seconds_of(study, row["name"], [])}
        for row in compared(study, CELLS, folds[True])
    ]
    rows = in_order(rows, study.output / "lgg.json", [*RECIPES, *CELLS])
    text = table(rows) + "\n\nMean Dice of the volumes, its 95 % interval over patients. Research use only.\n"
    leave(rows, text, study.output / "lgg")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
