"""Several looks at the same image: where they differ, the result is doubtful.

A look is the softmax of a network's scores. Looks differ by what must not matter: the network of an ensemble, a shift
of the image by some voxels, a mirror image where the anatomy allows it, or the features that dropout leaves out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from monai.inferers import Inferer
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from scripts.core.errors import UserError

SHIFT = 2  # voxels of the network's grid
CORNERS = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]  # every axis both ways, and all at once


class Looks:
    """Yields the looks at an image, one after the other.

    Args:
        inferer: makes the scores of one look.
        source: members, shifts, mirrors or dropout; auto takes the members of an ensemble, else shifts, and mirror
            images where there are `mirror_axes`.
        mirror_axes: along which the image may be mirrored; 0 is the first axis after the channels.
        axes: number of axes that the network sees: 2 for one that goes by slices.
        count: of looks with dropout.
    """

    def __init__(
        self,
        inferer: Inferer,
        source: str = "auto",
        mirror_axes: Sequence[int] = (),
        axes: int = 3,
        count: int = 8,
    ):
        self.inferer, self.source, self.axes, self.count = inferer, source, axes, count
        self.flips = [axis + 2 for axis in sorted(set(mirror_axes))]

    def kind(self, network: nn.Module) -> str:
        """What the looks differ in, in words."""
        if self.source != "auto":
            return self.source
        if members_of(network):
            return "members"
        return "shifts and mirrors" if self.flips else "shifts"

    def check(self, network: nn.Module) -> None:
        """Refuses a source that the network or the settings do not have."""
        missing = {
            "members": not members_of(network) and "the weights are of one network",
            "mirrors": not self.flips and "mirror_axes is empty",
            "dropout": not dropout_layers(network) and "the network has no dropout",
        }.get(self.kind(network))
        if missing:
            raise UserError(f"doubt_from is {self.source!r}, but {missing}; say --doubt_from auto")

    def __call__(self, image: torch.Tensor, network: nn.Module) -> Iterator[torch.Tensor]:
        """The probabilities of the classes, of shape (class, ...), one look after the other."""
        kind = self.kind(network)
        if kind == "members":
            for member in members_of(network):
                yield probabilities(self.inferer(image, member)[0])
        elif kind == "dropout":
            with dropping(network):
                for _ in range(self.count):
                    yield probabilities(self.inferer(image, network)[0])
        else:
            for shift, flips in self.views(kind):
                scores = self.inferer(shifted(image, shift).flip(flips), network)
                yield probabilities(shifted(scores.flip(flips), [-by for by in shift])[0])

    def views(self, kind: str) -> list[tuple[Sequence[int], list[int]]]:
        """The shift along each axis, and the axes that are mirrored."""
        flips = [[], *([axis] for axis in self.flips)] if kind != "shifts" else [[]]
        if kind == "mirrors":
            return [((0, 0, 0), flip) for flip in flips]
        moves = [tuple(SHIFT * step for step in corner[: self.axes]) for corner in CORNERS]
        return [(move, flips[number % len(flips)]) for number, move in enumerate(moves)]


def members_of(network: nn.Module) -> list[nn.Module]:
    """The networks of an ensemble; none of a single network."""
    members = getattr(network, "members", None)
    return list(members) if isinstance(members, nn.ModuleList) else []


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    """The layers that leave out features in training."""
    return [layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.p > 0]


@contextmanager
def dropping(network: nn.Module) -> Iterator[None]:
    """Features are left out as in training, in the same way for every image; other random numbers stay as they were."""
    layers = dropout_layers(network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def shifted(x: torch.Tensor, by: Sequence[int]) -> torch.Tensor:
    """A batch moved along its spatial axes by so many voxels; what comes in at the rim repeats the outermost voxels."""
    for axis, step in enumerate(by, start=2):
        if step:
            size = x.shape[axis]
            x = x.index_select(axis, (torch.arange(size, device=x.device) - step).clamp(0, size - 1))
    return x


def probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Of scores, classes first; a single map of scores belongs to class 1."""
    if scores.shape[0] == 1:
        foreground = scores.float().sigmoid()
        return torch.cat([1 - foreground, foreground])
    return scores.float().softmax(0)
