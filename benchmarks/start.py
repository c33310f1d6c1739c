"""Seconds until a training takes its first step, and until a command shows its help.

    python benchmarks/start.py [--patients 8] [--repeats 5]

The commands are started as a user starts them, by turns, on phantoms; all times are processor seconds. What a training
needs beside the import of torch and MONAI is the median of the differences in one turn. The table is left in demo/start
as start.md and start.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import common
from results import leave
from trainings import DEMO

QUIET = os.environ | {"PAGER": "cat", "OMP_WAIT_POLICY": "PASSIVE"}
IMPORTS = "import torch, monai.bundle, monai.engines, monai.handlers, monai.transforms"
FIRST_STEP = """
import os, sys
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

def attach(engine, *args, **kwargs):
    if isinstance(engine, SupervisedTrainer):
        engine.add_event_handler(Events.ITERATION_STARTED, lambda: os._exit(7))
    return run(engine, *args, **kwargs)

run, Engine.run = Engine.run, attach
sys.argv = ["-m", "run", "training", *sys.argv[1:]]
import fire, monai.bundle
fire.Fire({"run": monai.bundle.run})
"""


def measure(given: argparse.Namespace) -> list[dict]:
    from scripts.phantoms.generate import generate

    with tempfile.TemporaryDirectory() as folder:
        generate(f"{folder}/data", patients=given.patients, scans=1)
        training = ["--config_file", "['configs/train.json','configs/demo.json']", "--dataset_dir", f"{folder}/data"]
        training += ["--num_workers", "0", "--calibrate", "False"]
        ways = {
            "import of torch and MONAI": lambda _: ["-c", IMPORTS],
            "training, up to the first step": lambda turn: [
                "-c", FIRST_STEP, *training, "--output_dir", f"{folder}/{turn}", "--ckpt_dir", f"{folder}/{turn}/models"
            ],
            "help of a command": lambda _: ["-m", "scripts.check", "--help"],
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.repeats):
            for name, words in ways.items():
                times[name].append(seconds(words(turn)))
    imports, steps, _ = times.values()
    times["training, less the import"] = [step - load for step, load in zip(steps, imports)]
    return [
        {"what": name, "seconds": sorted(values), "processors": [common.processor()]} for name, values in times.items()
    ]


def seconds(words: list[str]) -> float:
    """Processor seconds of a Python process in bundle/, which ends well or, after a first step, with status 7."""
    began = common.now()
    done = subprocess.run([sys.executable, *words], cwd=common.BUNDLE, env=QUIET, capture_output=True, check=False)
    if done.returncode != (7 if FIRST_STEP in words else 0):
        sys.exit(done.stderr.decode()[-2000:])
    return common.since(began)[1]


def table(rows: list[dict]) -> str:
    lines = ["| what | processor seconds, median | least to most | processor |", "|---|---:|---:|---|"]
    lines += [
        f"| {row['what']} | {median(row['seconds']):.2f} | {row['seconds'][0]:.2f} to {row['seconds'][-1]:.2f} "
        f"| {row['processors'][0]} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=DEMO / "start")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = measure(given)
    leave(rows, table(rows) + "\n", given.output / "start")


if __name__ == "__main__":
    main()
