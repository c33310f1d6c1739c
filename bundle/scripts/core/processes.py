"""The processes of a distributed run: which one this is, and a way to collect the results of all of them."""

import ignite.distributed as idist
import torch
import torch.distributed as dist


def is_main_process() -> bool:
    """Returns True in the process of rank 0, and in a run of a single process."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def gather(found: tuple) -> list[tuple]:
    """Returns the values of all processes, in every process."""
    if idist.get_world_size() == 1:
        return [found]
    parts: list = [None] * idist.get_world_size()
    torch.distributed.all_gather_object(parts, found)
    return parts
