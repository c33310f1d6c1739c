"""The features of a network's lowest level, read while it runs."""

from types import TracebackType

import torch
from torch import nn

from scripts.doubt.looks import members_of


class LowestLevel:
    """Reads what the deepest convolution of a network gives, while it is used as a context.

    Which one that is shows in the first image that the network gets through: the one with the fewest voxels, of several
    the last. Of an ensemble it is that of its first network.

    Args:
        network: any network of convolutions.
    """

    def __init__(self, network: nn.Module):
        first = (members_of(network) or [network])[0]
        self.watched: list[nn.Module] = [layer for layer in first.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]

    def __enter__(self) -> "LowestLevel":
        self.found: dict[nn.Module, tuple[int, torch.Tensor, int]] = {}  # voxels, sum of the windows, their number
        self.hooks = [layer.register_forward_hook(self.keep) for layer in self.watched]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        complete = error is None  # a pass that broke off may not have come to the deepest one
        if complete and len(self.watched) > 1 and self.found:
            fewest = min(voxels for voxels, *_ in self.found.values())
            self.watched = [[layer for layer, (voxels, *_) in self.found.items() if voxels == fewest][-1]]

    def stop(self) -> None:
        """Reads no more; the next use as a context begins anew."""
        for hook in self.hooks:
            hook.remove()

    def keep(self, layer: nn.Module, given: tuple, output: torch.Tensor) -> None:
        _, total, count = self.found.get(layer, (0, torch.zeros(()), 0))
        mean = output.detach().as_subclass(torch.Tensor).float().flatten(2).mean(2)
        self.found[layer] = output[0, 0].numel(), total.to(mean.device) + mean.sum(0), count + len(mean)

    @property
    def features(self) -> torch.Tensor | None:
        """After use: the mean of every channel over all voxels and windows; None where no convolution has run."""
        _, total, count = self.found.get(self.watched[0], (0, None, 0)) if self.watched else (0, None, 0)
        return None if total is None else total / count
