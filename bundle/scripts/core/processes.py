"""The processes of a distributed run: which one this is, and a way to wait for all of them."""

from pathlib import Path

import ignite.distributed as idist
import torch.distributed as dist

from scripts.core.errors import UserError


def is_main_process() -> bool:
    """Returns True in the process of rank 0, and in a run of a single process."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def number_and_count() -> tuple[int, int]:
    """Returns the number of this process, from 0, and how many there are, on all machines together."""
    return idist.get_rank(), idist.get_world_size()


def wait_for_all() -> None:
    """Waits until all processes have come to this point."""
    idist.barrier()


def refuse_separate_folders(folder: Path) -> None:
    """Refuses a folder that is not the same one for all processes, as on machines with disks of their own."""
    number, count = number_and_count()
    if count == 1:
        return
    mark = folder / ".shared"
    if number == 0:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    wait_for_all()
    missing = sum_of_all(int(not mark.is_file()))
    if number == 0:
        mark.unlink(missing_ok=True)
    if missing:
        raise UserError(
            f"{folder}: {missing} of {count} processes see another folder; name one on a disk that all share"
        )


def sum_of_all(number: int) -> int:
    """Returns the sum of the numbers of all processes, once all have come to this point."""
    return int(idist.all_reduce(number))
