"""More than one opinion at inference: several networks, or mirror images of the input."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, combinations

import torch
from torch import nn

from monai.inferers import Inferer
from scripts.checkpoint import load_weights
from scripts.errors import UserError


class Ensemble(nn.Module):
    """Several networks of one kind; their scores are averaged.

    Args:
        network: gives the kind.
        members: a file of weights for each.
    """

    def __init__(self, network: nn.Module, members: Sequence[str]):
        super().__init__()
        if isinstance(members, str) or not members:
            raise UserError(f"members is {members!r}: expected files, --members \"['a/model.pt','b/model.pt']\"")
        self.members = nn.ModuleList(deepcopy(network) for _ in members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def load(paths: Sequence[str], network: Ensemble, class_names: list[str]) -> None:
    """Fills every member from its file."""
    for path, member in zip(paths, network.members, strict=True):
        load_weights(path, member, class_names)


class MirroredInferer(Inferer):
    """The mean of the scores of an image and of its mirror images, if any, each turned back.

    Args:
        inferer: of MONAI, for each of them.
        axes: of the image, 0 the first after the channels; with none it is the image alone, with two there are four
            images, with three eight.
    """

    def __init__(self, inferer: Inferer, axes: Sequence[int] = ()):
        super().__init__()
        subsets = chain.from_iterable(combinations(sorted(set(axes)), n) for n in range(1, len(set(axes)) + 1))
        self.inferer = inferer
        self.flips = [[axis + 2 for axis in subset] for subset in subsets]

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
        scores = self.inferer(inputs, network, *args, **kwargs)
        for axes in self.flips:
            scores = scores + self.inferer(inputs.flip(axes), network, *args, **kwargs).flip(axes)
        return scores / (1 + len(self.flips))
