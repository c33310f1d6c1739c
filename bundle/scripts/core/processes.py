"""The processes of a distributed run: which one this is, and a way to wait for all of them."""

import ignite.distributed as idist
import torch.distributed as dist


def is_main_process() -> bool:
    """Returns True in the process of rank 0, and in a run of a single process."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def number_and_count() -> tuple[int, int]:
    """Returns the number of this process, from 0, and how many there are, on all machines together."""
    return idist.get_rank(), idist.get_world_size()


def wait_for_all() -> None:
    """Waits until all processes have come to this point."""
    idist.barrier()


def sum_of_all(number: int) -> int:
    """Returns the sum of the numbers of all processes, once all have come to this point."""
    return int(idist.all_reduce(number))
