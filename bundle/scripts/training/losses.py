"""Losses that MONAI does not have, named by the configurations.

All of them take logits (B, C, ...) and class indices (B, 1, ...), of any type and on any device. If there is a single
channel, it is the logit of class 1, and the labels are 0 and 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss
from torch import nn

from scripts.core.errors import UserError


class CrossEntropy(nn.Module):
    """Cross-entropy with class weights, of the softmax or, for a single channel, of the sigmoid.

    As in torch, the sum is divided by the sum of the weights: only the ratios of the weights matter.

    Args:
        weight: weight of every class, background first, 0 or more; two of them for a single channel. None means equal
            weights.
    """

    def __init__(self, weight: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weight = None if weight is None else torch.as_tensor(weight, dtype=torch.float32)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # the softmax of these two is the sigmoid
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(f"weight has {len(self.weight)} values, expected {logits.shape[1]}: one for each class")
        weight = None if self.weight is None else self.weight.to(logits.device)
        return F.cross_entropy(logits, labels.squeeze(1).long(), weight=weight)


class SampledBCE(nn.Module):
    """Binary cross-entropy on a random sample of the voxels, a new one in every step.

    With several channels, each class is compared with all others. No voxel is drawn twice in a step; the random
    numbers are those of torch's default generator.

    Args:
        share: share of the voxels of a batch, above 0 and at most 1.
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
        losses: the losses.
        factors: factor of each loss, 0 or more.
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
    """Deep supervision: applies a loss to the network's scores and, during training, to its coarser scores.

    The coarser scores are the inputs of the network's module `upscale`. The labels are resampled to their grids.

    Args:
        loss: the loss for all of them.
        network: the network that is trained. It must have a module `upscale`, as the Improved 3D UNet has.
        share: weight of the scores of the next coarser grid; those of the grid after it have the weight share^2.
    """

    def __init__(self, loss: nn.Module, network: nn.Module, share: float = 0.5) -> None:
        super().__init__()
        upscale = getattr(network, "upscale", None)
        if not isinstance(upscale, nn.Module):
            raise UserError(
                f"{type(network).__name__} has no module upscale, so it has no coarser scores; choose another loss"
            )
        self.loss = DeepSupervisionLoss(loss, weights=[1.0, share, share**2])
        coarser: list[torch.Tensor] = []
        self.coarser = coarser

        def keep(module: nn.Module, given: tuple) -> None:
            if module.training:
                coarser.insert(0, given[0])

        network.register_forward_pre_hook(lambda *_: coarser.clear())
        upscale.register_forward_pre_hook(keep)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss([logits, *self.coarser], labels)
