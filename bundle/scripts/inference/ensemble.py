"""More than one opinion at inference: several networks, or mirror images of the input."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, combinations
from pathlib import Path

import torch
from monai.inferers import Inferer
from torch import nn

from scripts.core.errors import UserError
from scripts.training.checkpoint_files import read_checkpoint, write_checkpoint
from scripts.training.weights import load_weights


class Ensemble(nn.Module):
    """Several networks of one kind; their scores are averaged.

    Args:
        members: the networks.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def match_ensemble(network: nn.Module, weights_file: str | Sequence[str]) -> nn.Module:
    """What weights are for: the network itself, or an ensemble where a file holds several or several files are named.

    Args:
        network: gives the kind.
        weights_file: a file of weights or a list of them; of a file that is missing it is for `load` to speak.
    """
    if not weights_file:
        raise UserError(f"members is {weights_file!r}: expected files, --members \"['a/model.pt','b/model.pt']\"")
    if not isinstance(weights_file, str):
        return Ensemble([match_ensemble(deepcopy(network), file) for file in weights_file])
    more = read_checkpoint(Path(weights_file)).get("more", []) if Path(weights_file).is_file() else []
    return Ensemble([network, *(deepcopy(network) for _ in more)]) if more else network


def load(weights_file: str | Sequence[str], network: nn.Module, class_names: list[str]) -> None:
    """Fills what `as_many_as` has made."""
    if isinstance(weights_file, str):
        load_weights(weights_file, list(network.members) if isinstance(network, Ensemble) else network, class_names)
    else:
        for file, member in zip(weights_file, network.members, strict=True):
            load(file, member, class_names)


def join(files: Sequence[Path], joined: Path) -> None:
    """Puts the weights of several trainings into one file, in half precision.

    `model` is the first's, a whole network for whoever reads nothing else; `more` are the others'.
    """
    found = [read_checkpoint(file) for file in files]
    states = [{name: w.half() if w.is_floating_point() else w for name, w in one["model"].items()} for one in found]
    write_checkpoint({**found[0], "model": states[0], "more": states[1:]}, joined)


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
