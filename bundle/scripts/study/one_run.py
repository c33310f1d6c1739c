"""One run of a study: starts the usual training command in a folder of its own, and reads its result.

`trials.py` uses it.
"""

import csv
import os
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

from scripts.core.files import read_json, write_json
from scripts.core.hardware import core_count
from scripts.run.crash import ERROR_FILE
from scripts.study.space import as_argument

SCORE = "val_mean_dice"
RUN_LOCK = ".training.lock"  # the lock that the run itself holds, see scripts.run.session
STOP_STATUSES = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)  # stopped by a signal
ERROR_NAME = "error.json"  # the run writes the reason of its failure to this file


class RunFailedError(Exception):
    """A run has failed. The message is the reason."""


class RunStoppedError(Exception):
    """A run was stopped by a signal. It can be continued."""


@dataclass
class RunLauncher:
    """Starts runs, and stops them when the study receives a signal.

    Args:
        config_file: configuration files of the runs.
        overrides: ids and values that all runs share.
        parallel: number of runs at the same time.
        processes: the processes of all runs that were started here, including those that have ended.
        stopping: the signal that the study has received.
    """

    config_file: Sequence[str]
    overrides: dict
    parallel: int = 1
    processes: list = field(default_factory=list)
    stopping: signal.Signals | None = None

    def run(self, folder: Path, knobs: dict, slot: int) -> dict:
        """Starts a training, or continues one that was interrupted in this folder, and reads its history.

        Args:
            folder: folder of everything that the run writes.
            knobs: ids and values of this run only.
            slot: number of the run among those that run at the same time, from 0.

        Returns:
            `score`, `points` (epoch and score of every validation), `epochs` and `seconds`.

        Raises:
            RunFailedError: the run has failed.
            RunStoppedError: the run was stopped by a signal.
        """
        again = (folder / "overrides.json").is_file()
        folder.mkdir(parents=True, exist_ok=True)
        own = {"output_dir": str(folder), "ckpt_dir": str(folder / "models"), **({"resume": True} if again else {})}
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file"]
        command.append(repr([str(file) for file in self.config_file]))
        for name, value in {**self.overrides, **knobs, **own}.items():
            command += [f"--{name}", as_argument(value)]
        self.wait_for_orphan(folder)
        if self.stopping:
            raise RunStoppedError()
        write_json({**self.overrides, **knobs}, folder / "overrides.json")
        (folder / ERROR_NAME).unlink(missing_ok=True)
        environment = {**self.environment(slot), ERROR_FILE: str(folder / ERROR_NAME)}
        status = execute(command, folder, environment, self.started)
        if status:
            raise (
                RunStoppedError()
                if self.stopping or status in STOP_STATUSES
                else RunFailedError(failure_reason(folder, status))
            )
        return read_result(folder)

    def wait_for_orphan(self, folder: Path) -> None:
        """Waits for a run that is still alive although its study has ended: a folder never has two runs at once."""
        lock = FileLock(folder / RUN_LOCK)
        while not self.stopping:
            try:
                lock.acquire(timeout=1)
                return lock.release()
            except Timeout:
                continue

    def environment(self, slot: int) -> dict:
        """Returns environment variables that give the slot its own GPU or, without GPUs, its share of the cores."""
        given = dict(os.environ)
        gpus = [name for name in given.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = gpus or [str(number) for number in range(torch.cuda.device_count())]
        if torch.cuda.device_count() and "device" not in self.overrides:
            given["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        elif self.parallel > 1:
            given["OMP_NUM_THREADS"] = str(max(1, core_count() // self.parallel))
        return given

    @contextmanager
    def stoppable(self):
        """In this context SIGTERM and Ctrl-C stop the runs after their iteration. A second signal kills them."""
        signals = (signal.SIGTERM, signal.SIGINT)
        here = threading.current_thread() is threading.main_thread()  # only this thread may set a signal handler
        replaced = {number: signal.signal(number, self.stop) for number in signals} if here else {}
        try:
            yield
        finally:
            for number, handler in replaced.items():
                signal.signal(number, handler)

    def started(self, process: subprocess.Popen) -> None:
        """Registers the process of a run, so that a signal can stop it."""
        self.processes.append(process)
        if self.stopping:  # the signal came before the process was registered
            process.terminate()

    def stop(self, number: int, _frame=None) -> None:
        """The signal handler: stops all runs."""
        again, self.stopping = self.stopping is not None, signal.Signals(number)
        for process in self.processes:  # this does nothing to a process that has ended
            process.kill() if again else process.terminate()


def execute(command: Sequence[str], folder: Path, environment: dict, started: Callable) -> int:
    """Runs a command to its end and returns its status. Its output goes to `run.log` and `errors.log`."""
    with (folder / "run.log").open("ab") as out, (folder / "errors.log").open("wb") as errors:
        out.write(f"{shlex.join(command)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment, start_new_session=True
        )
        started(process)
        return process.wait()


def failure_reason(folder: Path, status: int) -> str:
    """Returns why a run failed, in one line: the reason in its `error.json`, or the last line of `errors.log`.

    A run that fails very early, for example because a configuration can't be parsed, writes no `error.json`.
    """
    if status < 0:
        return f"ended by {signal.Signals(-status).name}" + (": out of memory?" if status == -signal.SIGKILL else "")
    if (folder / ERROR_NAME).is_file():
        return str(read_json(folder / ERROR_NAME)["reason"])[:500]
    lines = (folder / "errors.log").read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    return lines[-1][:500] if lines else f"ended by status {status}"


def read_result(folder: Path) -> dict:
    """Returns the progress of a finished run (see `read_progress`) and its best score."""
    found = read_progress(folder)
    if not found["points"]:
        raise RunFailedError(
            f"no {SCORE} in {found['epochs']} epoch(s) of its history.csv, expected one after the last epoch; "
            "name configurations that validate with this metric"
        )
    return {**found, "score": max(value for _, value in found["points"])}


def read_progress(folder: Path) -> dict:
    """Reads epochs, seconds and the scores of all validations of a run, which may be unfinished."""
    file = folder / "history.csv"
    rows = []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    return {
        "points": [(int(row["epoch"]), float(row[SCORE])) for row in rows if row.get(SCORE)],
        "epochs": sum(int(row["epoch"]) > 0 for row in rows),
        "seconds": round(sum(float(row["seconds"]) for row in rows), 1),
    }
