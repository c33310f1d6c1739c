"""Few cases of another kind: training from scratch against fine-tuning, with the same number of iterations.

    python benchmarks/fine_tuning.py [--real DATA] [--half] [--minutes 60] [--output DIR]

The weights to start from, `source`, are trained on phantoms of one site. The cases of the two tasks are
- `site`: phantoms of other patients at another site. Fat is bright and fluid is dark, as in T1-weighted images; the
  noise is twice as strong, and the coil is twice as uneven.
- `prostate`: PROMISE12, only with --real. DATA holds its imagesTr/ and labelsTr/, with the prostate as label 1. Of the
  six classes of the source, the prostate and the background remain, in an output layer of two classes.

For each task, each draw and 4, 8 and 16 training cases there are two runs with the same cases, the same seed and the
same number of iterations. Both have configs/demo.json, the schedule of configs/finetune.json and keep the last epoch.
`scratch` starts at random, with the full rate of configs/demo.json and nothing frozen; `tuned` starts from the source,
with all of configs/finetune.json. The two draws have no training case in common, and are scored on cases that neither
the source nor the run has seen. Differences are taken case by case, and their intervals are bootstraps over cases. What
is done is not repeated; what was stopped continues when the same command is given again. The table is written to
fine_tuning.md and fine_tuning.json. Research use only.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import common  # puts the bundle on the path as well
import numpy as np
from results import leave
from trainings import DEMO, command, execute, train_once

SIZE = (64, 64, 32)
SITE_SIGNALS = {  # T1 weighted, relative to fat, where it differs from scripts.phantoms.generate.SIGNALS
    "muscle": 0.4,
    "skin": 0.45,
    "urine": 0.2,
    "bladder_wall": 0.4,
    "bowel_wall": 0.42,
    "stool": 0.55,
    "fluid": 0.25,
    "capsule": 0.3,
    "peripheral_zone": 0.38,
    "transition_zone": 0.45,
    "seminal_vesicle": 0.32,
    "vein": 0.35,
}
SITE_NOISE, SITE_BIAS = 0.08, 0.6
CLASSES = {
    "site": ["background", "body", "bones", "bladder", "rectum", "prostate"],
    "prostate": ["background", "prostate"],
}
COUNTS, DRAWS, SCORED = (4, 8, 16), (0, 1), 20
SOURCE_CASES, EPOCHS, CASES_IN_EPOCH = 48, 12, 16  # 16 iterations an epoch, however many cases there are
SCRATCH = {"rate_factor": 1.0, "frozen_epochs": 0}
FILES = ["train", "demo", "finetune"]


@dataclass(frozen=True)
class Run:
    """One training and its score.

    Args:
        task: a key of CLASSES.
        draw: which training cases are taken.
        count: how many.
        tuned: whether it starts from the source.
    """

    task: str
    draw: int
    count: int
    tuned: bool

    @property
    def name(self) -> str:
        return f"{self.task}_{self.draw}_{self.count}_{'tuned' if self.tuned else 'scratch'}"


def write_site(folder: Path, first_patient: int, patients: int) -> None:
    """Writes phantoms of the other site, one scan of each patient, in the folders of HipMRI."""
    from scripts.phantoms import generate
    from scripts.phantoms.layouts import LAYOUTS
    from scripts.phantoms.shapes import voxel_mm

    kind, signals = LAYOUTS["hipmri"], generate.SIGNALS | SITE_SIGNALS
    for patient in range(first_patient, first_patient + patients):
        image, label = make_site_scan(patient, signals)
        for name, array in ((kind.image, image), (kind.label, label)):
            file = folder / name.format(patient=patient, week=0, side="", scan=1, slice=0, number=1)
            file.parent.mkdir(parents=True, exist_ok=True)
            generate.write_file(file, kind.encode(array, voxel_mm(SIZE)))


def make_site_scan(patient: int, signals: dict) -> tuple[np.ndarray, np.ndarray]:
    """As scripts.phantoms.generate.make_scan makes one, with other signals, noise and coil."""
    from scripts.phantoms import generate, pelvis

    streams = np.random.default_rng([1, patient]).spawn(3)
    varied = {tissue: mean * np.exp(generate.SIGNAL_SPREAD * streams[2].normal()) for tissue, mean in signals.items()}
    build, filling = pelvis.draw_build(streams[0]), pelvis.draw_filling(streams[1])
    label, signal = pelvis.render_pelvis(SIZE, build, filling, varied)
    return generate.acquire(signal, streams[2], SITE_BIAS, SITE_NOISE), label


def prepare(given: argparse.Namespace) -> None:
    """Writes the phantoms of both sites, once."""
    from scripts.phantoms import generate

    done = given.output / "phantoms.done"
    if not done.is_file():
        generate.generate(given.output / "source_data", patients=SOURCE_CASES // 2, scans=2, size=SIZE, seed=0)
        write_site(given.output / "site_data", 100, SCORED + len(DRAWS) * max(COUNTS))
        done.touch()


def pairs_of(task: str, given: argparse.Namespace) -> tuple[Path, list[dict]]:
    """The folder of a task and its cases, in a fixed order."""
    from scripts.data.layouts import find_pairs

    folder = given.output / "site_data" if task == "site" else given.real.resolve()
    pairs = find_pairs(str(folder), False)
    return folder, sorted(pairs, key=lambda pair: str(pair["image"]))


def divide(cases: list[dict], draw: int, count: int) -> tuple[list[dict], list[dict]]:
    """The cases to train on, and those to be scored: first or last SCORED of all for the draws 1 and 0."""
    most = max(COUNTS)
    if len(cases) < SCORED + most:
        sys.exit(f"{len(cases)} cases, expected {SCORED + most} or more: {most} to train on and {SCORED} to be scored")
    ordered = cases if draw == 0 else cases[::-1]
    return ordered[:count], ordered[-SCORED:]


def datalist(run: Run, given: argparse.Namespace) -> dict:
    folder, cases = pairs_of(run.task, given)
    training, scored = divide(cases, run.draw, run.count)
    what = {"site": "Synthetic phantoms of another site", "prostate": "PROMISE12"}[run.task]
    return {
        "description": f"{what}, {run.count} cases",
        "dataset_dir": str(folder),
        "class_names": CLASSES[run.task],
        "training": training,
        "validation": [],
        "test": scored,
    }


def train_source(given: argparse.Namespace, deadline: float) -> bool:
    """The weights that the others start from: all phantoms of the first site, the recipe of the demo."""
    folder = given.output / "source"
    options = {"dataset_dir": given.output / "source_data", "seed": 0, "half": given.half} | CHEAP
    options |= {"validation_share": 0.0, "test_share": 0.0, "epochs": 14}
    train = command("training", ["train", "demo"], folder, "run", options, "--resume True")
    return train_once(folder, "source", train, train, deadline)


CHEAP = {"keep_last": True, "picture_interval": 1000}


def work(run: Run, given: argparse.Namespace, deadline: float) -> bool:
    """Trains and scores, if that is not done; returns whether it is."""
    folder = given.output / run.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps(datalist(run, given), indent=1, default=str) + "\n")
    shared = {"dataset_dir": pairs_of(run.task, given)[0], "class_names": CLASSES[run.task], "half": given.half}
    options = shared | CHEAP | {"seed": run.draw, "epochs": EPOCHS, "copies": CASES_IN_EPOCH // run.count}
    if run.tuned:
        options |= {"pretrained": given.output / "source" / "models" / "model.pt"} | given.options
    else:
        options |= SCRATCH
    train = command("training", FILES, folder, "run", options, "--resume True")
    if not train_once(folder, run.name, train, train, deadline):
        return False
    evaluate = command("evaluating", ["train", "evaluate", "demo"], folder, "scored", shared)
    return (folder / "scored" / "metrics.json").is_file() or execute(f"{run.name}: score", evaluate, deadline)


def outcome(run: Run, given: argparse.Namespace) -> dict:
    """The scores of two runs on the same cases, and their difference; `run` is the one from scratch."""
    from scripts.report.comparison import compare

    folders = [given.output / name for name in (run.name, run.name.replace("scratch", "tuned"))]
    metrics = [json.loads((folder / "scored" / "metrics.json").read_text()) for folder in folders]
    found = compare([str(folder / "scored") for folder in folders])["foreground"]["differences"][0]
    return {
        "task": run.task,
        "draw": run.draw,
        "training_cases": run.count,
        "scored_cases": metrics[0]["foreground"]["n"],
        "scratch": metrics[0]["foreground"]["mean"],
        "tuned": metrics[1]["foreground"]["mean"],
        "difference": {"mean": found["mean"], "ci": found["ci"]},
        "prostate": [one["classes"]["prostate"]["measures"]["Dice"]["mean"] for one in metrics],
        "iterations": EPOCHS * CASES_IN_EPOCH,
    }


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| cases of | training cases | draw | from scratch | fine-tuned | difference |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    names = {"site": "another site, phantoms", "prostate": "PROMISE12"}
    for row in rows:
        low, high = row["difference"]["ci"]
        lines.append(
            f"| {names[row['task']]} | {row['training_cases']} | {row['draw'] + 1} | {row['scratch']:.3f} "
            f"| {row['tuned']:.3f} | {row['difference']['mean']:+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--real", type=common.present, help="folder of PROMISE12 with imagesTr and labelsTr; none by default"
    )
    parser.add_argument("--minutes", type=float, default=60, help="that this call may take; 60 by default")
    parser.add_argument("--output", type=Path, default=DEMO / "fine_tuning")
    parser.add_argument("--half", action="store_true", help="compute in bfloat16")
    parser.add_argument("--only", nargs="+", choices=["scratch", "tuned"], default=["scratch", "tuned"])
    parser.add_argument(
        "--set", nargs="*", type=common.assignment, default=[], metavar="NAME=VALUE", help="overrides of the tuned runs"
    )
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    given.output = given.output.resolve()
    given.options = dict(given.set)
    deadline = time.monotonic() + 60 * given.minutes
    prepare(given)
    tasks = list(CLASSES) if given.real else ["site"]
    pairs = [
        [Run(task, draw, count, tuned) for tuned in (False, True) if ("tuned" if tuned else "scratch") in given.only]
        for draw in DRAWS
        for task in tasks
        for count in COUNTS
    ]
    whole = ("tuned" not in given.only) or train_source(given, deadline)
    whole = whole and all(time.monotonic() < deadline and work(run, given, deadline) for pair in pairs for run in pair)
    scored = [
        pair[0]
        for pair in pairs
        if len(pair) == 2 and all((given.output / r.name / "scored" / "metrics.json").is_file() for r in pair)
    ]
    rows = sorted((outcome(run, given) for run in scored), key=lambda r: (r["task"] != "site", r["training_cases"]))
    if rows:
        leave(rows, table(rows) + "\n", given.output / "fine_tuning")
    sys.exit(not whole)


if __name__ == "__main__":
    main()
