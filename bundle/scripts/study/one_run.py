"""One run of a study: the stock command in a folder of its own, and what came of it."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from scripts.core.files import write_json
from scripts.study.space import word

SCORE = "val_mean_dice"
RUN_LOCK = ".training.lock"  # of the run itself, see scripts.run.session
ASKED = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)  # statuses of a run told to stop
POINTER = "--debug True prints"  # in the line that says where a traceback is
COMPONENT = re.compile(r"^\w+: (given |\w+ is )")  # the line on the component that could not be made


class RunFailed(Exception):  # noqa: N818
    """A run that came to nothing; the message is the reason."""


class RunStopped(Exception):  # noqa: N818
    """A run that was told to stop, to be gone on with."""


@dataclass
class Runs:
    """Starts runs, and passes on what the study is told by a signal.

    Args:
        config_file: of the runs.
        overrides: ids and values that all runs share.
        parallel: number of runs at once.
        processes: of the runs begun here, those that ended among them.
        stopping: the signal that the study was sent.
    """

    config_file: Sequence[str]
    overrides: dict
    parallel: int = 1
    processes: list = field(default_factory=list)
    stopping: signal.Signals | None = None

    def run(self, folder: Path, knobs: dict, slot: int) -> dict:
        """Runs a training, goes on with one that was broken off there, and reads its history.

        Args:
            folder: of everything the run writes.
            knobs: ids and values of this run alone.
            slot: number from 0 of the place among those at work at once.

        Returns:
            `score`, `points` (epoch and score of every validation), `epochs` and `seconds`.
        """
        again = (folder / "overrides.json").is_file()
        folder.mkdir(parents=True, exist_ok=True)
        own = {"output_dir": str(folder), "ckpt_dir": str(folder / "models"), **({"resume": True} if again else {})}
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file"]
        command.append(repr([str(file) for file in self.config_file]))
        for name, value in {**self.overrides, **knobs, **own}.items():
            command += [f"--{name}", word(value)]
        self.wait_for_orphan(folder)
        if self.stopping:
            raise RunStopped()
        write_json({**self.overrides, **knobs}, folder / "overrides.json")
        status = execute(command, folder, self.environment(slot), self.started)
        if status:
            raise RunStopped() if self.stopping or status in ASKED else RunFailed(reason(folder, status))
        return result(folder)

    def wait_for_orphan(self, folder: Path) -> None:
        """Waits for a run that outlived the study that began it; two are never at work in one folder."""
        lock = FileLock(folder / RUN_LOCK)
        while not self.stopping:
            try:
                lock.acquire(timeout=1)
                return lock.release()
            except Timeout:
                continue

    def environment(self, slot: int) -> dict:
        """A GPU of its own for the slot where there are any, else its share of the cores."""
        given = dict(os.environ)
        gpus = [name for name in given.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = gpus or [str(number) for number in range(torch.cuda.device_count())]
        if torch.cuda.device_count() and "device" not in self.overrides:
            given["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        elif self.parallel > 1:
            given["OMP_NUM_THREADS"] = str(max(1, cores() // self.parallel))
        return given

    @contextmanager
    def stoppable(self):
        """While this lasts, SIGTERM and Ctrl-C stop the runs after their iteration; a second one ends them at once."""
        signals = (signal.SIGTERM, signal.SIGINT)
        here = threading.current_thread() is threading.main_thread()  # no other may set a signal handler
        replaced = {number: signal.signal(number, self.stop) for number in signals} if here else {}
        try:
            yield
        finally:
            for number, handler in replaced.items():
                signal.signal(number, handler)

    def started(self, process: subprocess.Popen) -> None:
        self.processes.append(process)
        if self.stopping:  # the signal came in between
            process.terminate()

    def stop(self, number: int, _frame=None) -> None:
        again, self.stopping = self.stopping is not None, signal.Signals(number)
        for process in self.processes:  # one that has ended is let be
            process.kill() if again else process.terminate()


def execute(command: Sequence[str], folder: Path, environment: dict, started: Callable) -> int:
    """Runs a command to its end, its output in `run.log` and `errors.log`; gives its status."""
    with (folder / "run.log").open("ab") as out, (folder / "errors.log").open("wb") as errors:
        out.write(f"{shlex.join(command)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment, start_new_session=True
        )
        started(process)
        return process.wait()


def reason(folder: Path, status: int) -> str:
    """Why a run failed, in one line: the last that it wrote, less the one that points to the traceback."""
    lines = (folder / "errors.log").read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    if status < 0 or not lines:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"ended by {name}" + (": out of memory?" if status == -signal.SIGKILL else "")
    if POINTER in lines[-1] and len(lines) > 1:
        lines.pop()
    return "; ".join(lines[-2:] if COMPONENT.match(lines[-1]) else lines[-1:])[:500]


def result(folder: Path) -> dict:
    """What the history of a finished run says."""
    found = measured(folder)
    if not found["points"]:
        raise RunFailed(f"no {SCORE} in {found['epochs']} epoch(s) of its history.csv; lower val_interval")
    return {**found, "score": max(value for _, value in found["points"])}


def measured(folder: Path) -> dict:
    """Epochs, seconds and validation points of a run, however far it has come."""
    file = folder / "history.csv"
    rows = []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    return {
        "points": [(int(row["epoch"]), float(row[SCORE])) for row in rows if row.get(SCORE)],
        "epochs": len(rows),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
    }


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
