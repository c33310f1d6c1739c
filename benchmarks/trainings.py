"""Trainings as one types them: the commands, and how long they took. Nothing is trained twice."""

import csv
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import common
from common import BUNDLE

DEMO = BUNDLE.parent / "demo"  # what benchmarks leave, unless told otherwise
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # statuses of a command that was asked to end
ALONE = "--calibrate False"  # the training and no more; the weights are the same


def execute(title: str, command: str, deadline: float = math.inf) -> bool:
    """Runs a command in bundle/ and returns whether it succeeded. If this program was told to stop, it ends here.

    Args:
        title: text that is printed above the command.
        command: the command as typed.
        deadline: a time of time.monotonic(); a command that is not finished by then is stopped and has not succeeded.
    """
    print(f"\n== {title}\n   cd bundle && {command}", flush=True)
    began = time.monotonic()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(shlex.split(command), cwd=BUNDLE, env={**os.environ, "PATH": path})
    # A terminal's Ctrl-C reaches the command by itself; it saves, then both end. A SIGTERM is for this process alone.
    kept = signal.signal(signal.SIGINT, lambda *_: None), signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        status = None
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), kept):
        signal.signal(number, handler)
    if status in STOPPED:
        print("stopped; the same command goes on from here")
        sys.exit(status if status > 0 else 128 - status)
    fate = {0: "done", None: "out of time"}.get(status, f"failed with status {status}")
    print(f"== {fate} after {time.monotonic() - began:.0f} s")
    return status == 0


def command(what: str, files: list[str | Path], folder: Path, out: str, options: dict, *more: str) -> str:
    """As one would type it in bundle/; files are configurations by name, or any others by path."""
    listed = ",".join(f"'{file}'" if isinstance(file, Path) else f"'configs/{file}.json'" for file in files)
    paths = f"--datalist {folder}/datalist.json --output_dir {folder}/{out} --ckpt_dir {folder}/models"
    given = [f'--{name} "{value}"' for name, value in options.items()]
    return " ".join([f'python -m monai.bundle run {what} --config_file "[{listed}]"', paths, *given, *more])


def train_once(folder: Path, title: str, train: str, noted: str, deadline: float) -> bool:
    """Trains in a folder, unless that is done; returns whether it is. Refuses what another command has trained.

    Args:
        folder: receives `trained.json`, which says by which command.
        title: of the training, for the reader of the output.
        train: the command.
        noted: the command as it is kept and compared.
        deadline: a time of time.monotonic().
    """
    done, settings = folder / "trained.json", {"command": noted}
    if done.is_file() and json.loads(done.read_text()) != settings:
        sys.exit(f"{folder}: trained by another command ({json.loads(done.read_text())['command']}); move it away")
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        common.note_processor(folder)
        if not execute(f"{title}: train", f"{train} {ALONE}", deadline):
            return False
        done.write_text(json.dumps(settings) + "\n")
    return True


def duration(run: Path) -> dict:
    """Epochs and seconds that a training took; an epoch in which it was paused counts as long as the others."""
    with (run / "history.csv").open(newline="") as file:
        seconds = [float(epoch["seconds"]) for epoch in csv.DictReader(file)]
    usual = median(seconds)
    return {"epochs": len(seconds), "seconds": round(sum(s if s <= 3 * usual else usual for s in seconds))}
