"""Half precision (bfloat16) where the hardware computes faster with it: weights, losses and scores stay whole."""

import torch
from torch import nn

from monai.inferers import Inferer, SimpleInferer


def supported(device: torch.device | str) -> bool:
    """Whether a device has instructions for bfloat16: recent GPUs, and CPUs with AVX-512 BF16 or AMX."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class HalfInferer(Inferer):
    """Runs a network in bfloat16 and gives its scores in float32.

    Args:
        enabled: False leaves everything as it is.
        inferer: of MONAI, that calls the network; by default once, on the whole input.
    """

    def __init__(self, enabled: bool, inferer: Inferer | None = None):
        super().__init__()
        self.enabled, self.inferer = enabled, inferer or SimpleInferer()

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args, **kwargs) -> torch.Tensor:
        if not self.enabled:
            return self.inferer(inputs, network, *args, **kwargs)

        def half(x: torch.Tensor, *given, **named) -> torch.Tensor:
            with torch.autocast(x.device.type, torch.bfloat16):
                return network(x, *given, **named).float()

        return self.inferer(inputs, half, *args, **kwargs)
