"""The first steps of every run: refuse what can't be meant, keep two runs apart, say what is about to happen."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from scripts.core.errors import UserError, tracebacks
from scripts.core.memory import keep_freed

logger = logging.getLogger(__name__)

LEFT_BEHIND_S = 3  # for so long the workers of a killed run may hold its lock
open_handles: list = []  # the locks and the log file of the run in progress


def start(
    output_dir: str,
    log_name: str,
    network: nn.Module,
    spatial_size: Sequence[int],
    ckpt_dir: str | None = None,
    main_process: bool = True,
) -> None:
    """Asks the network for its input, locks the folders the run writes to, opens the log file.

    Args:
        output_dir: folder of everything the run writes but its checkpoints.
        log_name: name of the log file in it, without ending; two runs of one name can't share a folder.
        network: asked whether it can take `spatial_size`.
        spatial_size: size of the network's input.
        ckpt_dir: folder of the checkpoints, where the run writes any.
        main_process: False in all but one process of a distributed run; those neither lock nor log.
    """
    finish()  # what an earlier run in this process left, if an error ended it
    keep_freed()
    check_size: Callable | None = getattr(network, "check_size", None)
    if check_size is not None:
        try:
            check_size(spatial_size)
        except ValueError as error:
            raise UserError(f"spatial_size: {error}") from error
    if not main_process:
        return
    lock_folder(output_dir, log_name, "output_dir")
    if ckpt_dir is not None and Path(ckpt_dir).resolve() != Path(output_dir).resolve():
        lock_folder(ckpt_dir, log_name, "ckpt_dir")
    file = logging.FileHandler(Path(output_dir) / f"{log_name}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for listener in (logging.getLogger(), tracebacks):
        listener.addHandler(file)
    open_handles.append(file)
    logger.info("Research use only: not for diagnosis or treatment.")
    warn_if_machine_is_busy()


def warn_if_machine_is_busy() -> None:
    """Where others are at work on this machine, threads that spin while they wait slow a CPU run down many times."""
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > cores / 2 and "OMP_WAIT_POLICY" not in os.environ and not torch.cuda.is_available():
        logger.info(
            f"others are at work here (load {load:.1f} on {cores} cores): with OMP_WAIT_POLICY=PASSIVE in its "
            "environment the run may be many times faster"
        )


def lock_folder(folder: str, name: str, knob: str) -> None:
    """Locks a folder until the run ends, however it ends; another run of that name in it is refused."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / f".{name}.lock")
    try:
        lock.acquire(timeout=LEFT_BEHIND_S)
    except Timeout as error:
        raise UserError(
            f"{folder}: another {name} run is at work in it; wait for it or give another --{knob}"
        ) from error
    open_handles.append(lock)


def finish() -> None:
    """Releases the locks and closes the log file; the end of the process does so too."""
    while open_handles:
        part = open_handles.pop()
        if isinstance(part, FileLock):
            part.release()
        else:
            for listener in (logging.getLogger(), tracebacks):
                listener.removeHandler(part)
            part.close()
