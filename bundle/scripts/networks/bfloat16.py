"""Computing in half precision (bfloat16) if the hardware is faster with it. Weights, losses and scores are float32.

The configurations name `supports_bfloat16` and `HalfInferer`.
"""

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn
from torch.nn import functional as F

from scripts.core.hardware import supports_bfloat16

__all__ = ["HalfInferer", "supports_bfloat16"]  # what configurations name
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes of a weight


class ChannelsLastInstanceNorm(nn.Module):
    """Instance normalisation that keeps the memory layout of its input; torch's own moves the channels to the front."""

    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = [F.batch_norm(item, None, None, self.weight, self.bias, True, 0.0, self.eps) for item in x.split(1)]
        return one[0] if len(one) == 1 else torch.cat(one)


class SmallConv(nn.modules.conv._ConvNd):
    """A convolution that computes in float32 if its kernel is larger than its input along an axis.

    In bfloat16 on a CPU (oneDNN's avx512_core_bf16, torch 2.13) parts of the gradient of such a kernel, for example
    3x3x3 at a depth of 2 or 7x7 on 2x2, are never written. They keep the old contents of the memory, which is sometimes
    NaN.
    """

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if all(size >= kernel for size, kernel in zip(x.shape[2:], weight.shape[2:])):
            return super()._conv_forward(x, weight, bias)
        with torch.autocast(x.device.type, enabled=False):
            return super()._conv_forward(x.float(), weight, bias)


class SmallConv2d(SmallConv, nn.Conv2d):
    pass


class SmallConv3d(SmallConv, nn.Conv3d):
    pass


SMALL: dict[type, type] = {nn.Conv2d: SmallConv2d, nn.Conv3d: SmallConv3d}


def compute_small_in_float32(network: nn.Module) -> None:
    """Corrects the gradients of a network that is trained in bfloat16 on a CPU, see `SmallConv`."""
    for module in network.modules():
        if type(module) in SMALL:
            module.__class__ = SMALL[
                type(module)
            ]  # the same weights under the same names, for copies and optimisers too


def put_channels_last(network: nn.Module) -> None:
    """Puts channels last in memory, permanently: then convolutions in bfloat16 on a CPU don't rearrange their input."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d) and not child.track_running_stats:
                setattr(module, name, ChannelsLastInstanceNorm(child))
    for weight in network.parameters():
        if weight.ndim in LAYOUTS:
            weight.data = weight.data.to(memory_format=LAYOUTS[weight.ndim])


class HalfInferer(Inferer):
    """Runs a network in bfloat16 and returns its scores in float32.

    Args:
        enabled: False changes nothing.
        inferer: an inferer of MONAI that calls the network; by default once, on the complete input.
        frozen: whether the network will not be trained any more. On a CPU it then gets a faster memory layout;
            otherwise its gradients are corrected.
    """

    def __init__(self, enabled: bool, inferer: Inferer | None = None, frozen: bool = False):
        super().__init__()
        self.enabled, self.inferer, self.frozen = enabled, inferer or SimpleInferer(), frozen
        self.prepared: nn.Module | None = None

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
        if not self.enabled:
            return self.inferer(inputs, network, *args, **kwargs)
        own = isinstance(network, nn.Module)  # not so in MONAI Deploy, which wraps the exported network
        if own and inputs.device.type == "cpu" and network is not self.prepared:
            (put_channels_last if self.frozen else compute_small_in_float32)(network)
            self.prepared = network

        def half(x: torch.Tensor, *given, **named) -> torch.Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                return network(x, *given, **named).float()

        return self.inferer(inputs, half, *args, **kwargs)
