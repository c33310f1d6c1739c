"""nnU-Net and this bundle at equal time, one CPU core each: Dice on fold 0 of the hippocampus, every half hour for two.

    python3.11 -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    python benchmarks/peer_nnunet.py DATA --only ours --core 0
    python benchmarks/peer_nnunet.py DATA --only peer --core 1 --peer_python NNUNET/bin/python
    python benchmarks/peer_nnunet.py DATA --only score --peer_python NNUNET/bin/python

DATA is the same folder as for hippocampus.py. The two trainings may run at the same time, each on a core of its own
with one thread. Nothing else should run on these cores: the clock counts, and the share of its core that each side had
is noted. `score` follows when both have ended; `picture` draws its results again. What was stopped goes on when the
same command is given again. The seconds of training count; the preparation of the data and the scoring don't.

- nnU-Net plans, prepares, trains (3d_fullres) and predicts with its own commands and settings, so in float32, as it
  does on every CPU. Only its epochs are replaced, by the clock of nnunet_trainer/timed_trainer.py. Its plan is made of
  all cases, those of fold 0 included, as in its own cross-validation.
- Ours is the recipe with strong.json. When one network has its epochs, the next seed is trained; the scores of all that
  are finished are averaged. Before the first is finished, its last validation counts: the same measure, but there wrong
  voxels in the margin that images are padded with count too. Its seconds include validations; nnU-Net has none.

The results are left in demo/peer_nnunet, as peer_nnunet.md, .json and .png.
"""

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from shlex import quote

import common  # puts the bundle on the path as well
from hippocampus import CLASSES, RECIPE, datalist, shaping
from peer_results import (
    DATASET,
    MARKS,
    MODEL,
    TESTED,
    ends,
    leave,
    ours_at,
    read_history,
    share,
    table,  # noqa: F401 - .ci/figures.py asks for it here
    table_row,
)
from training_steps import write_raw
from trainings import DEMO, command, execute, train_once

FOLD = "fold0"
INSTALL = "python3.11 -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2==2.8.1"
VERSIONS = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in ('nnunetv2', 'torch')), sep=', ')"


def use_one_core(core: int) -> None:
    """Keeps this process and all that it starts on one core, with one thread each."""
    if core not in os.sched_getaffinity(0):
        sys.exit(f"--core {core}: expected one of {sorted(os.sched_getaffinity(0))}")
    os.sched_setaffinity(0, {core})
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"


def settings(given: argparse.Namespace) -> dict[str, dict]:
    """The folders of both sides, and what must be the same in all commands that go on in them."""
    ours = {"minutes": given.minutes, "seed": given.seed, "set": given.options}
    return {"nnunet": {"minutes": given.minutes}, "ours": ours}


def refuse_other_settings(given: argparse.Namespace, side: str) -> Path:
    """Ends this program if a side's folder was made with other settings; returns the folder."""
    file, text = given.output / side / "settings.json", json.dumps(settings(given)[side])
    if file.is_file() and file.read_text() != text:
        sys.exit(f"{file}: {file.read_text()}, expected {text}; move the folder away, or give the same settings")
    return file.parent


def begin(given: argparse.Namespace, side: str) -> Path:
    """Makes a side's folder, or goes on with it; notes its settings and the processor. Returns the folder."""
    folder = refuse_other_settings(given, side)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings(given)[side]))
    common.note_processor(folder)
    return folder


@contextmanager
def measured(folder: Path) -> Iterator[None]:
    """Notes the seconds by the clock and of the processor that the commands inside have taken, if they end."""
    began = common.now()
    yield
    with (folder / "seconds.csv").open("a", newline="") as file:
        csv.writer(file).writerow(common.since(began))


def write_lists(given: argparse.Namespace) -> Path:
    """Writes the data list of the fold; returns its path."""
    file = given.output / "datalist.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(datalist(given.data, FOLD), indent=1) + "\n")
    return file


def names(file: Path, split: str) -> list[str]:
    """The cases of a split of a data list."""
    return [entry["patient"] for entry in json.loads(file.read_text())[split]]


def run(title: str, typed: str) -> None:
    """Runs a command, or ends this program with it."""
    if not execute(title, typed):
        sys.exit(1)


def find_program(given: argparse.Namespace, what: str) -> Path:
    """A command of nnU-Net's environment."""
    program = Path(given.peer_python or "-").absolute().parent / f"nnUNetv2_{what}"
    if not program.is_file():
        sys.exit(f"{program}: not there; make nnU-Net's environment ({INSTALL}), give --peer_python NNUNET/bin/python")
    return program


def nnunet(what: str, arguments: str, title: str, given: argparse.Namespace) -> None:
    """Runs a command of nnU-Net's environment, or ends this program."""
    folder = given.output / "nnunet"
    os.environ |= {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    os.environ["nnUNet_n_proc_DA"] = str(int(what != "train"))  # 0: samples are made in the training's own process
    os.environ["nnUNet_extTrainer"] = str(Path(__file__).resolve().parent / "nnunet_trainer")
    os.environ["PEER_SECONDS"] = str(60 * given.minutes)
    run(f"nnU-Net: {title}", f"{quote(str(find_program(given, what)))} {arguments}")


def train_peer(given: argparse.Namespace) -> None:
    """nnU-Net's plan, its preparation of the data, and its training."""
    listed, folder = write_lists(given), begin(given, "nnunet")
    prepared, done = folder / "preprocessed" / DATASET, folder / "prepared"
    if not done.is_file():
        write_raw(given.data, folder / "raw" / DATASET)
        nnunet("plan_and_preprocess", "-d 4 -c 3d_fullres -npfp 1 -np 1", "plan and prepare", given)
        done.touch()
    split = {"train": names(listed, "training"), "val": names(listed, "validation")}
    (prepared / "splits_final.json").write_text(json.dumps([split]))
    if not (folder / "results" / DATASET / MODEL / "checkpoint_final.pth").is_file():
        with measured(folder):
            nnunet("train", "4 3d_fullres 0 -tr TimedTrainer -device cpu --c", "train", given)


def train_ours(given: argparse.Namespace) -> None:
    """The recipe's networks one after the other, as long as the next one is likely to be finished in time."""
    write_lists(given)
    begin(given, "ours")
    number, spent = 1, [0.0]
    while number == 1 or spent[-1] + spent[-1] / (number - 1) <= 60 * given.minutes:
        folder = given.output / "ours" / f"network_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.output / "datalist.json", folder / "datalist.json")
        options = {"dataset_dir": given.data, "seed": given.seed + number - 1}
        options |= {"keep_last": True, "val_interval": 5} | given.options
        train = command("training", ["train", *RECIPE, "strong"], folder, "run", options, "--resume True")
        noted = train.replace(str(folder), folder.name).replace(str(given.data), "DATA")
        with nullcontext() if (folder / "trained.json").is_file() else measured(folder.parent):
            if not train_once(folder, f"ours: network {number}", train, noted, math.inf):
                sys.exit(1)
        spent, number = ends(given.output), number + 1


def score_peer(given: argparse.Namespace, mark: int) -> None:
    """Predicts the cases with a kept checkpoint, with and without mirror images, and scores them."""
    listed, links = given.output / "datalist.json", {}
    for part, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        links[part] = given.output / "nnunet" / part
        links[part].mkdir(exist_ok=True)
        for name in names(listed, "validation"):
            link = links[part] / (name + ending)
            if not link.is_symlink():
                link.symlink_to((given.data / f"{part}Tr" / f"{name}.nii.gz").resolve())
    for kind, option in TESTED.items():
        folder = given.output / "nnunet" / f"{kind}_{mark}"
        if (folder / "metrics.json").is_file():
            continue
        paths = f"-i {quote(str(links['images']))} -o {quote(str(folder / 'predictions'))} --continue_prediction"
        model = f"-d 4 -c 3d_fullres -tr TimedTrainer -f 0 -chk checkpoint_mark_{mark}.pth -device cpu -npp 1 -nps 1"
        nnunet("predict", f"{paths} {model}{option}", f"predict, {kind}, checkpoint {mark} of {MARKS}", given)
        classes = ["background", *CLASSES]
        evaluate = f"python -m scripts.report evaluate --truth {links['labels']} --prediction {folder}/predictions "
        evaluate += f'--output_dir {folder} --datalist_file {listed} --workers 1 --class_names "{classes}"'
        run(f"nnU-Net: score, {kind}, checkpoint {mark}", evaluate)


def score_ours(given: argparse.Namespace, count: int) -> None:
    """Scores the first networks together."""
    folder = given.output / "ours" / f"averaged_{count}"
    if (folder / "run" / "metrics.json").is_file():
        return
    folder.mkdir(exist_ok=True)
    shutil.copyfile(given.output / "datalist.json", folder / "datalist.json")
    members = [str(folder.parent / f"network_{number}" / "models" / "model.pt") for number in range(1, count + 1)]
    options = {"dataset_dir": given.data, "members": members} | shaping(given.options)
    files = ["train", "evaluate", *RECIPE, "ensemble"]
    run(f"ours: score {count} networks", command("evaluating", files, folder, "run", options, "--split validation"))


def about(output: Path, python: str) -> dict:
    """What both sides are, and the machine."""
    plans = json.loads((output / "nnunet" / "preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    plan = plans["configurations"]["3d_fullres"]
    made = {"peer": subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.strip()}
    made["plan"] = f"batches of {plan['batch_size']}, patches of {plan['patch_size']}"
    for side, folder in (("peer", "nnunet"), ("ours", "ours")):
        made[f"{side}_share"] = share(output / folder)
        made[f"{side}_processor"] = "; ".join(common.noted_processors(output / folder))
    if scored := sorted(output.glob("ours/averaged_*/run/metrics.json")):
        made["ours"] = dict(json.loads(scored[0].read_text())["about"])["Versions"]
    return made


def refuse_untrained(given: argparse.Namespace) -> None:
    """Ends this program if one of the sides isn't trained, or if nnU-Net isn't there to predict."""
    model = given.output / "nnunet" / "results" / DATASET / MODEL
    ends_with = {"peer": model / "checkpoint_final.pth", "ours": given.output / "ours" / "network_1" / "trained.json"}
    for side, file in ends_with.items():
        if not file.is_file():
            sys.exit(f"{file}: not there; give the command with --only {side} first, until it ends")
    for side in settings(given):
        refuse_other_settings(given, side)
    find_program(given, "predict")


def score(given: argparse.Namespace) -> dict:
    """Scores all that is kept of both trainings; returns all results."""
    refuse_untrained(given)
    for mark in range(1, MARKS + 1):
        score_peer(given, mark)
    finished = [end for end in ends(given.output) if end <= 60 * given.minutes]
    for count in range(1, len(finished) + 1):
        score_ours(given, count)
    validated = read_history(given.output / "ours" / "network_1" / "run")
    return {
        "rows": [table_row(given.output, given.minutes, mark) for mark in range(1, MARKS + 1)],
        "validation": [found for found in validated if found[1] is not None],
        "ours": [ours_at(given.output, end) for end in finished],
        "about": about(given.output, given.peer_python),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=common.with_folds, help="folder with imagesTr, labelsTr and folds.json")
    parser.add_argument("--only", choices=("ours", "peer", "score", "picture"), help="by default all, in turn")
    parser.add_argument("--minutes", type=float, default=120, help="of training, for each side; 120 by default")
    parser.add_argument("--core", type=int, default=0, help="of the processor, which is used alone")
    parser.add_argument("--peer_python", help="the Python of an environment that has nnU-Net v2")
    parser.add_argument("--output", type=Path, default=DEMO / "peer_nnunet")
    parser.add_argument("--seed", type=int, default=0, help="of our first network")
    parser.add_argument(
        "--set", nargs="*", type=common.assignment, default=[], metavar="NAME=VALUE", help="overrides of our training"
    )
    given = parser.parse_args()
    given.options = dict(given.set)
    given.output, given.data = given.output.resolve(), given.data.resolve()
    use_one_core(given.core)
    if given.only in (None, "peer"):
        train_peer(given)
    if given.only in (None, "ours"):
        train_ours(given)
    if given.only in (None, "score"):
        leave(score(given), given.output)
    if given.only == "picture":
        leave(json.loads((given.output / "peer_nnunet.json").read_text()), given.output)


if __name__ == "__main__":
    main()
