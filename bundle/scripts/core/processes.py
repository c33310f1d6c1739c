"""Which process of a distributed run this is, and what all of them have found."""

import ignite.distributed as idist
import torch
import torch.distributed as dist


def is_main_process() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def gather(found: tuple) -> list[tuple]:
    """What every process has found, in all of them."""
    if idist.get_world_size() == 1:
        return [found]
    parts: list = [None] * idist.get_world_size()
    torch.distributed.all_gather_object(parts, found)
    return parts
