"""Losses that MONAI lacks; all take logits (B, C, ...) and class indices (B, 1, ...), of any type and any device.

A single channel is the logit of class 1, its labels are 0 and 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss
from torch import nn


class CrossEntropy(nn.Module):
    """Cross-entropy of the softmax, or of the sigmoid of a single channel, over voxels that may weigh unequally.

    As in torch, the mean is over weights, not voxels: only ratios of the weights matter.

    Args:
        weight: of every class, background first, from 0; of a single channel two. None weighs all alike.
    """

    def __init__(self, weight: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weight = None if weight is None else torch.as_tensor(weight, dtype=torch.float32)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # whose softmax is the sigmoid
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(f"weight has {len(self.weight)} values, expected {logits.shape[1]}: one for each class")
        weight = None if self.weight is None else self.weight.to(logits.device)
        return F.cross_entropy(logits, labels.squeeze(1).long(), weight=weight)


class SampledBCE(nn.Module):
    """Binary cross-entropy on voxels drawn at random, without repetition, anew in every step.

    Several channels are taken one by one, each against all other classes. The draw is that of torch's generator.

    Args:
        share: of the voxels of a batch, above 0 and up to 1.
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}, expected a number above 0 and up to 1")
        self.share = share

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        channels = logits.shape[1]
        logits, labels = logits.float().movedim(1, -1).reshape(-1, channels), labels.reshape(-1).long()
        drawn = torch.randperm(len(labels), device=labels.device)[: max(1, round(self.share * len(labels)))]
        truth = F.one_hot(labels[drawn], channels) if channels > 1 else labels[drawn, None]
        return F.binary_cross_entropy_with_logits(logits[drawn], truth.float())


class Sum(nn.Module):
    """A weighted sum of losses.

    Args:
        losses: what is summed.
        factors: of each of them, from 0.
    """

    def __init__(self, losses: Sequence[nn.Module], factors: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(factors):
            raise ValueError(f"{len(factors)} factors for {len(losses)} losses; expected one each")
        self.losses = nn.ModuleList(losses)
        self.factors = tuple(factors)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return sum(factor * loss(logits, labels) for factor, loss in zip(self.factors, self.losses))


class DeepSupervision(nn.Module):
    """A loss on the network's scores and, in training, on the coarser ones that it has made them of.

    The coarser ones are what the network's own `upscale` is given; labels are taken down to their grids.

    Args:
        loss: on each of them.
        network: that is trained; with a module `upscale`, as the Improved 3D UNet.
        share: what the next coarser scores add to the loss; those after them add its square.
    """

    def __init__(self, loss: nn.Module, network: nn.Module, share: float = 0.5) -> None:
        super().__init__()
        if not isinstance(getattr(network, "upscale", None), nn.Module):
            raise ValueError(f"{type(network).__name__} has no upscale: it sums no maps of several levels")
        self.loss = DeepSupervisionLoss(loss, weights=[1.0, share, share**2])
        coarser = self.coarser = []

        def keep(module: nn.Module, given: tuple) -> None:
            if module.training:
                coarser.insert(0, given[0])

        network.register_forward_pre_hook(lambda *_: coarser.clear())
        network.upscale.register_forward_pre_hook(keep)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss([logits, *self.coarser], labels)
