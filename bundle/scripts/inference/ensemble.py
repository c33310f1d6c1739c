"""Averaging at inference: the scores of several networks, or of mirror images of the input."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain, combinations
from pathlib import Path
from typing import cast

import torch
from monai.inferers import Inferer
from torch import nn

from scripts.core.errors import UserError
from scripts.training.weights import load_weights, read_weights
from scripts.training.weights_info import write_ensemble


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


def single_networks(network: nn.Module) -> list[nn.Module]:
    """The networks of an ensemble, and of the ensembles in it; of another network itself."""
    if not isinstance(network, Ensemble):
        return [network]
    return [single for member in network.members for single in single_networks(member)]


def match_ensemble(network: nn.Module, weights_file: str | Sequence[str]) -> nn.Module:
    """The network that weights are for: the given one, or an ensemble of such networks where there are several.

    Args:
        network: a network of the kind that the weights are for.
        weights_file: a file of weights, a JSON file that lists several, or a list of such files. A file that is missing
            counts as one network here; `load` refuses it.
    """
    if not weights_file:
        raise UserError(f"members is {weights_file!r}: expected files, --members \"['a/model.pt','b/model.pt']\"")
    if not isinstance(weights_file, str):
        return Ensemble([match_ensemble(deepcopy(network), file) for file in weights_file])
    count = len(read_weights(weights_file).networks) if Path(weights_file).is_file() else 1
    return network if count == 1 else Ensemble([network, *(deepcopy(network) for _ in range(count - 1))])


def load(
    weights_file: str | Sequence[str],
    network: nn.Module,
    class_names: list[str],
    spatial_size: Sequence[int] | None = None,
) -> None:
    """Fills the network or the ensemble that `match_ensemble` has made."""
    if isinstance(weights_file, str):
        members = list(network.members) if isinstance(network, Ensemble) else network
        load_weights(weights_file, members, class_names, spatial_size)
    else:
        for file, member in zip(weights_file, cast(Ensemble, network).members, strict=True):
            load(file, member, class_names, spatial_size)


def join(files: Sequence[Path], joined: Path, **info: object) -> None:
    """Puts the weights of several trainings together, in half precision.

    Args:
        files: the weights of one network each.
        joined: the JSON file that will list them; `NAME_1.pt`, `NAME_2.pt`, ... are written beside it. What it says of
            classes and training data is taken from the first of the files.
        info: what it should say otherwise.
    """
    found = [read_weights(file) for file in files]
    networks = [weights for one in found for weights in one.networks]
    halves = [{name: w.half() if w.is_floating_point() else w for name, w in one.items()} for one in networks]
    write_ensemble(halves, found[0].info | info, joined)


class MirroredInferer(Inferer):
    """The mean of the scores of an image and of its mirror images; each is mirrored back before.

    Args:
        inferer: MONAI's inferer for a single image.
        axes: along which the image is mirrored; 0 is the first axis after the channels. Without any, only the image
            itself is used; with two axes there are four images, with three eight.
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
