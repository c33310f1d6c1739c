"""The first and last steps of every run: lock its folders, open and close its log file.

Each configuration calls `start` before the run and `finish` after it.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import nn

from scripts.core.commands import refuse_file
from scripts.core.errors import UserError, tracebacks
from scripts.core.memory import keep_freed
from scripts.core.processes import is_main_process

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 3  # the workers of a killed run may hold its lock for this long
PATCHES = {  # for several processes, by the name of the log
    "training": "multi_gpu_train.json",
    "evaluation": "multi_gpu_evaluate.json",
    "inference": "multi_gpu_inference.json",
}
LOCKS = {"inference": "results", "evaluation": "results", "next": "results"}  # all keep run.json
open_handles: list = []  # locks and log file of the current run


def start(
    output_dir: str,
    log_name: str,
    network: nn.Module,
    spatial_size: Sequence[int],
    ckpt_dir: str | None = None,
) -> None:
    """Checks the input size, locks the folders that the run writes to, and opens the log file.

    Args:
        output_dir: folder of all the files that the run writes, except its checkpoints.
        log_name: name of the log file in it, without the extension. Two runs of one name can't share a folder; nor can
            those that keep the same record, see `LOCKS`.
        network: its `check_size`, if it has one, must accept `spatial_size`.
        spatial_size: size of the network's input.
        ckpt_dir: folder of the checkpoints, if the run writes any.
    """
    finish()  # releases the handles of an earlier run in this process that ended with an error
    refuse_strangers(log_name)
    keep_freed()
    check_size: Callable | None = getattr(network, "check_size", None)
    if check_size is not None:
        try:
            check_size(spatial_size)
        except ValueError as error:
            raise UserError(f"spatial_size: {error}") from error
    if not is_main_process():
        return
    lock_folder(output_dir, LOCKS.get(log_name, log_name), "output_dir")
    if ckpt_dir is not None and Path(ckpt_dir).resolve() != Path(output_dir).resolve():
        lock_folder(ckpt_dir, log_name, "ckpt_dir")
    file = logging.FileHandler(Path(output_dir) / f"{log_name}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for listener in (logging.getLogger(), tracebacks):
        listener.addHandler(file)
    open_handles.append(file)
    logger.info("Research use only: not for diagnosis or treatment.")
    warn_if_machine_is_busy()


def refuse_strangers(log_name: str) -> None:
    """Refuses processes that a launcher has started together and that do not know of each other."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count not in ("", "1") and not dist.is_initialized():
        patch = PATCHES.get(log_name)
        todo = f"add configs/{patch} at the end of --config_file" if patch else "start it without the launcher"
        raise UserError(
            f"{log_name}: one of {count} processes of a launcher such as torchrun, but this is for one; {todo}"
        )


def warn_if_machine_is_busy() -> None:
    """Logs a hint if other programs use the CPU: then threads that spin while they wait make a run much slower."""
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > cores / 2 and "OMP_WAIT_POLICY" not in os.environ and not torch.cuda.is_available():
        logger.info(
            f"other programs are using this machine (load {load:.1f} on {cores} cores): the run may be many times "
            "faster if you set OMP_WAIT_POLICY=PASSIVE in its environment"
        )


def lock_folder(folder: str, name: str, knob: str) -> None:
    """Locks a folder until the run ends, even if it is killed. Another run with a lock of that name is refused."""
    refuse_file(folder, knob)
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / f".{name}.lock")
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout as error:
        raise UserError(
            f"{folder}: another run is using this folder, expected none; wait for it or give another --{knob}"
        ) from error
    open_handles.append(lock)


def finish() -> None:
    """Releases the locks and closes the log file. The end of the process does the same."""
    while open_handles:
        part = open_handles.pop()
        if isinstance(part, FileLock):
            part.release()
        else:
            for listener in (logging.getLogger(), tracebacks):
                listener.removeHandler(part)
            part.close()
