"""Invented records and reports for tests: seeded, with odd cases among them."""

import json
import math
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from scripts.phantoms import generate
from scripts.report.comparison import compare
from scripts.report.files import metrics
from scripts.report.schema import CaseRecord, Report
from scripts.report.summary import summarise

CLASSES = ["background", "body", "bones", "bladder", "rectum", "prostate"]
SIZES = {"body": 21000.0, "bones": 1400.0, "bladder": 150.0, "rectum": 70.0, "prostate": 45.0}
SCORES = ["Dice", "IoU", "sensitivity", "precision", "hd95_mm", "mean_surface_distance_mm", "surface_dice"]
VOLUMES = ["truth_ml", "predicted_ml", "difference_ml"]
HOSTILE = '<b>x</b>&"|`*$y$'
NAN = math.nan


def records(patients: int, scans: int, seed: int = 0, weeks: bool = True, truth: bool = True) -> list[CaseRecord]:
    """Every scan of every patient; the Dice of the classes is about 0.85."""
    rng = np.random.default_rng(seed)
    made = []
    for patient in range(patients):
        for week in range(scans):
            measures = {name: result(rng, size, truth) for name, size in SIZES.items()}
            patient_name = f"Case_{patient + 4:03d}"
            name, seconds = f"{patient_name}_Week{week}", float(rng.uniform(1, 2))
            made.append(CaseRecord(name, patient_name, week if weeks else None, measures, seconds))
    return made


def result(rng, size: float, truth: bool) -> dict:
    real = size * rng.uniform(0.6, 1.4)
    predicted = real * rng.normal(1, 0.08)
    if not truth:
        return {"status": "predicted", "predicted_ml": predicted}
    dice = float(np.clip(rng.normal(0.86, 0.07), 0.2, 0.99))
    scores = [dice, dice / (2 - dice), dice + 0.01, dice - 0.01, 30 * (1 - dice) + 1, 8 * (1 - dice), dice + 0.005]
    values = dict(zip(SCORES, scores, strict=True)) | {"truth_ml": real, "predicted_ml": predicted}
    return {"status": "scored", **values, "difference_ml": predicted - real, "n_ref": 1}  # one truth for all runs


def odd(record: CaseRecord, name: str, status: str) -> None:
    """Turns a result into a missed structure, a false alarm or an absent one."""
    old = record.measures[name]
    if status == "not found":
        record.measures[name] = {"status": status, "predicted_ml": 0.0}
        return
    volumes = {
        "missed": (old.get("truth_ml", NAN), 0.0),
        "false alarm": (0.0, old["predicted_ml"] / 9),
        "absent": (0.0, 0.0),
    }[status]
    scores = dict.fromkeys(SCORES, NAN) | (
        dict.fromkeys(("Dice", "IoU", "sensitivity", "surface_dice"), 0.0) if status == "missed" else {}
    )
    values = dict(zip(VOLUMES, (*volumes, volumes[1] - volumes[0])))
    record.measures[name] = {"status": status, **scores, **values, "n_ref": 1}


def report(cases: list[CaseRecord], truth: bool = True, history: int = 0, place: bool = True) -> Report:
    """A whole report from its records; `place` says in which slice the worst result is."""
    made = Report(
        title="Evaluation" if truth else "Segmentation",
        has_truth=truth,
        about=[
            ["Model", "ImprovedUNet, trained on 170 scans of 30 patients for 200 epochs"],
            ["Checkpoint", "models/model.pt, sha256 1f2e3d4c5b6a7988"],
            ["Data list", "data/split.json, sha256 0a1b2c3d4e5f6071"],
            ["Split", "test"],
            ["Date", "2025-01-31"],
            ["Versions", "monai 1.6.1, torch 2.10.0, numpy 2.2.6"],
            ["Device", "CPU, 2 threads"],
            ["Time per case", "1.2 s median, 1.9 s at most"],
        ],
        class_names=CLASSES,
        tolerance_mm=2.0,
        cases=cases,
        summary=summarise(cases, CLASSES),
        rules=[
            "A structure that is in the truth and not in the prediction is missed: its Dice is 0 and counts.",
            "A structure that is in neither is absent and counts nowhere.",
            "A structure that is only in the prediction is a false alarm: it has no Dice, and its volume is reported.",
        ]
        if truth
        else [],
        limits=["The numbers hold for scans like these; another scanner or protocol may give other ones."],
        history=history_rows(history) if history else None,
    )
    if made.summary.worst and place:
        worst = made.summary.worst
        worst.plane, worst.slice, worst.axis = "axial", 47, 2
        worst.note = "The prediction leaves out its upper third."
    return made


def history_rows(epochs: int) -> list[dict]:
    """As read from history.csv: text, validated every second epoch."""
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": str(epoch), "train_loss": f"{0.2 + 0.9 * 0.97**epoch:.4f}", "learning_rate": "0.0005"}
        for value, name in enumerate(CLASSES):
            dice = (0.97 - 0.04 * value) * (1 - 0.95**epoch)
            row[f"train_dice_{name}"] = f"{dice:.4f}"
            row[f"val_dice_{name}"] = f"{dice - 0.03:.4f}" if epoch % 2 else ""
        rows.append(row)
    return rows


def odd_records(patients: int = 10, scans: int = 4, truth: bool = True) -> list[CaseRecord]:
    """With missed, absent and invented structures, warnings, one patient with one scan, and a hostile name."""
    made = records(patients, scans, seed=1, truth=truth)
    made[0].warnings = ["bladder: touches the border of the field of view", "body: 2 pieces, expected 1"]
    made[5].warnings = ["prostate: 3.1 ml, expected 10 to 200 ml"]
    if truth:
        odd(made[3], "bladder", "missed")
        odd(made[7], "prostate", "missed")
        odd(made[4], "rectum", "false alarm")
        odd(made[6], "rectum", "absent")
    else:
        odd(made[3], "bladder", "not found")
    made[-1] = replace(made[-1], case=HOSTILE, patient=HOSTILE, week=None, warnings=[f"{HOSTILE}: odd"])
    return sorted(made, key=lambda record: record.case)


def comparison(first: list[CaseRecord], *others: list[CaseRecord]) -> dict:
    """Runs over the same cases, the first the baseline."""
    names = [{"case": record.case, "patient": record.patient, "week": record.week} for record in first]
    runs = [first, *([replace(record, **name) for record, name in zip(run, names)] for run in others)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / chr(ord("A") + i) / "metrics.json" for i in range(len(runs))]
        for file, run in zip(files, runs):
            file.parent.mkdir()
            file.write_text(json.dumps(metrics(report(run))))
        return compare([str(file) for file in files])


@cache
def full_size() -> tuple:
    """Image, truth, prediction and affine of a scan as large as real ones; the prediction is the truth, moved."""
    image, truth = (
        volume.repeat(2, 0).repeat(2, 1).repeat(2, 2) for volume in generate.make_scan(4, 0, (128, 128, 64))
    )
    noise = (
        np.random.default_rng(0).standard_normal(image.shape, np.float32) * 20
    )  # as much as phantoms of that size have
    affine = np.diag([-430 / 256, -430 / 256, 200 / 128, 1.0])
    return image + noise, truth, np.roll(truth, (3, 2), (0, 2)), affine
