"""Which process of a distributed inference or evaluation does which case: whoever is free takes the next one.

`multi_gpu_inference.json` and `multi_gpu_evaluate.json` use it.
"""

import os
from collections.abc import Iterator, Sized
from uuid import uuid4

import ignite.distributed as idist
import torch.distributed as dist


class NextCase:
    """A sampler that gives every index to exactly one of the processes, in the order in which they ask.

    With a fixed share for each process, as `DistributedSampler` has it, all would wait for the slowest machine. A run
    that is resumed would give most of what is left to whichever process had died before.

    How many cases a process will do is not known beforehand, so the sampler has no length. The processes count together
    in the store by which they have found each other, which torchrun provides.

    Args:
        dataset: the same cases, in the same order, in every process.
    """

    def __init__(self, dataset: Sized):
        self.dataset = dataset

    def __iter__(self) -> Iterator[int]:
        counter = idist.broadcast(uuid4().hex)  # a name of its own for every pass over the cases
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, wait_for_workers=False)
        while (index := store.add(counter, 1) - 1) < len(self.dataset):
            yield index
