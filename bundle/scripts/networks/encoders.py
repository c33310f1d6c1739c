"""What is the encoder of a network: its layers from the image down to the coarsest grid."""

import re
from itertools import chain

from torch import nn

from scripts.core.errors import UserError

NESTED = r"model(\.1\.submodule)*\.0\.|model(\.1\.submodule)+\.(?!\d)"  # each level is inside the one above it
ENCODERS = {  # class: how the names of the encoder's tensors begin; the bundle's other networks have an `encoder`
    "AlexNetFCN": r"layers\.[0-6]\.",  # the five convolutions
    "SmallFCN": r"layers\.\d+\.conv\.",  # all but the one that returns the classes
    "UNet": NESTED,
    "AttentionUnet": NESTED,
    "BasicUNet": r"(conv_0|down_\d+)\.",
    "DynUNet": r"(input_block|downsamples|bottleneck)\.",
    "SegResNet": r"(convInit|down_layers)\.",
}


def tensor_names(network: nn.Module) -> list[str]:
    """The names of a network's weights and buffers, each tensor once, however often the network holds it."""
    saved = network.state_dict()
    return [name for name, _ in chain(network.named_parameters(), network.named_buffers()) if name in saved]


def encoder_names(network: nn.Module, modules: list[str] | None = None) -> list[str]:
    """The names of the weights and buffers of a network's encoder.

    Args:
        network: any of configs/networks.json, or another one that has an `encoder`.
        modules: names of the modules that are its encoder, for any other network.

    Raises:
        UserError: it is not known what the encoder is, or the network has no such modules.
    """
    if modules is not None:
        start = "|".join(rf"{re.escape(module)}(\.|$)" for module in modules)
    elif isinstance(getattr(network, "encoder", None), nn.Module):
        start = r"encoder\."
    else:
        start = ENCODERS.get(type(network).__name__, "$.")  # which fits no name
    found = [name for name in tensor_names(network) if re.match(start, name)]
    if not found:
        children = ", ".join(name for name, _ in network.named_children())
        kind = type(network).__name__
        wanted = f"no part of it is called {modules}" if modules else "its encoder is not known"
        raise UserError(
            f"frozen_epochs: {kind}: {wanted}; expected some of its parts ({children}): name them, for example with "
            f"--freezing::modules \"['{children.split(', ')[0]}']\", or say --frozen_epochs 0"
        )
    return found
