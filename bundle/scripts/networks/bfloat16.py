"""Half precision (bfloat16) where the hardware computes faster with it: weights, losses and scores stay whole."""

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn
from torch.nn import functional as F

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes of a weight


def supported(device: torch.device | str) -> bool:
    """Whether a device has instructions for bfloat16: recent GPUs, and CPUs with AVX-512 BF16 or AMX."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class ChannelsLastInstanceNorm(nn.Module):
    """Instance normalisation that leaves channels where they are in memory; torch's own moves them to the front."""

    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = [F.batch_norm(item, None, None, self.weight, self.bias, True, 0.0, self.eps) for item in x.split(1)]
        return one[0] if len(one) == 1 else torch.cat(one)


class ShallowConv3d(nn.Conv3d):
    """A convolution that computes in float32 where its kernel is deeper than its input.

    In bfloat16 on a CPU (oneDNN's avx512_core_bf16, torch 2.13) parts of the gradient of such a kernel, 3x3x3 at a
    depth of 2, are never written: whatever lay in that memory becomes a gradient, now and then NaN.
    """

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if x.shape[-3] >= self.kernel_size[0]:
            return super()._conv_forward(x, weight, bias)
        with torch.autocast(x.device.type, enabled=False):
            return super()._conv_forward(x.float(), weight, bias)


def compute_shallow_in_float32(network: nn.Module) -> None:
    """Makes the gradients of a network that computes in bfloat16 on a CPU right, see `ShallowConv3d`."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = ShallowConv3d  # the same weights under the same names, for copies and optimisers too


def put_channels_last(network: nn.Module) -> None:
    """Puts channels last in memory, for good: convolutions on a CPU in bfloat16 need not rearrange their input then."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d | nn.InstanceNorm3d) and not child.track_running_stats:
                setattr(module, name, ChannelsLastInstanceNorm(child))
    for weight in network.parameters():
        if weight.ndim in LAYOUTS:
            weight.data = weight.data.to(memory_format=LAYOUTS[weight.ndim])


class HalfInferer(Inferer):
    """Runs a network in bfloat16 and gives its scores in float32.

    Args:
        enabled: False leaves everything as it is.
        inferer: of MONAI, that calls the network; by default once, on the whole input.
        frozen: whether the network won't be trained any more; then it is laid out for a CPU, else mended for one.
    """

    def __init__(self, enabled: bool, inferer: Inferer | None = None, frozen: bool = False):
        super().__init__()
        self.enabled, self.inferer, self.frozen = enabled, inferer or SimpleInferer(), frozen
        self.prepared: nn.Module | None = None

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
        if not self.enabled:
            return self.inferer(inputs, network, *args, **kwargs)
        if inputs.device.type == "cpu" and network is not self.prepared:
            (put_channels_last if self.frozen else compute_shallow_in_float32)(network)
            self.prepared = network

        def half(x: torch.Tensor, *given, **named) -> torch.Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                return network(x, *given, **named).float()

        return self.inferer(inputs, half, *args, **kwargs)
