"""Parts of the networks that MONAI does not have: a check of the input size, a block of convolutions, resizing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from monai.networks.layers import Conv, get_act_layer
from torch import nn

LINEAR = {2: "bilinear", 3: "trilinear"}  # names of linear interpolation by spatial_dims


class Network(nn.Module):
    """A network that checks the size of its input, and names a size that would fit if it does not.

    Args:
        divisor: number of voxels along an axis that become one voxel on the coarsest grid.
        single_voxel: whether the coarsest grid may be a single voxel; a normalisation over voxels needs two or more.
    """

    def __init__(self, divisor: int, single_voxel: bool = False) -> None:
        super().__init__()
        self.divisor = divisor
        self.single_voxel = single_voxel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, out_channels, *spatial) of an image (batch, in_channels, *spatial)."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self.check_size(x.shape[2:])
        return self.logits(x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits of an image whose size fits."""
        raise NotImplementedError

    @torch.jit.unused
    def check_size(self, size: Sequence[int]) -> None:
        """Refuses a grid that does not divide evenly down to the coarsest level."""
        check_multiple(size, self.divisor, self.single_voxel)


class PooledEncoderNetwork(Network):
    """A network whose encoder is a list `encoder` of blocks with a `pool` between them."""

    if TYPE_CHECKING:  # at run time TorchScript would try to read them
        encoder: nn.ModuleList
        pool: nn.Module

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the output of every level, fine to coarse."""
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            x = x if level == 0 else self.pool(x)
            x = block(x, x)
            skips.append(x)
        return skips


def check_multiple(size: Sequence[int], divisor: int, single_voxel: bool = False) -> None:
    """Refuses a grid that is not a multiple of `divisor`, or that is reduced to one voxel if this is not allowed.

    Args:
        size: voxels along each axis.
        divisor: every axis must be a multiple of it.
        single_voxel: whether all axes may be equal to it.

    Raises:
        ValueError: the size, and one that would fit.
    """
    fits = all(n > 0 and n % divisor == 0 for n in size) and (single_voxel or any(n > divisor for n in size))
    if not fits:
        least = 1 if single_voxel else 2
        better = tuple(max(least, -(-n // divisor)) * divisor for n in size)
        larger = "" if single_voxel else f", and one larger than {divisor}"
        raise ValueError(
            f"spatial size {tuple(size)} does not fit this network: every axis must be a multiple of {divisor}"
            f"{larger}; {better} would do"
        )


class Block(nn.Module):
    """Convolutions on one grid, each with normalisation, dropout and activation, and optionally a shortcut.

    The shortcut is added before the last activation. It is its source itself if the widths are equal, or else a
    convolution of it with kernel size 1.

    Args:
        dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of every convolution.
        convolutions: how many, 1 or more.
        kernel_size: of every convolution, odd.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation, likewise; None for none.
        bias: whether the convolutions have a bias.
        dropout: share of the values dropped after each normalisation, 0 for none.
        shortcut: channels of the shortcut's source; None for no shortcut.
        shortcut_bias: whether the shortcut's convolution has a bias.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        convolutions: int = 2,
        kernel_size: int = 3,
        act: str | tuple = "relu",
        norm: str | tuple | None = "batch",
        bias: bool = True,
        dropout: float = 0.0,
        shortcut: int | None = None,
        shortcut_bias: bool = True,
    ) -> None:
        super().__init__()
        layers = [
            Convolution(
                dims,
                out_channels if i else in_channels,
                out_channels,
                kernel_size=kernel_size,
                act=act if i < convolutions - 1 else None,
                norm=norm,
                dropout=dropout or None,
                bias=bias,
            )
            for i in range(convolutions)
        ]
        self.convolutions = nn.Sequential(*layers)
        self.shortcut = None
        if shortcut == out_channels:
            self.shortcut = nn.Identity()
        elif shortcut is not None:
            self.shortcut = Conv[Conv.CONV, dims](shortcut, out_channels, 1, bias=shortcut_bias)
        self.act = get_act_layer(act)

    def forward(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Applies the convolutions to `x`. `source` is the source of the shortcut; without one it is not used."""
        x = self.convolutions(x)
        if self.shortcut is not None:
            x = x + self.shortcut(source)
        return self.act(x)


def check_widths(widths: Sequence[int], least: int = 2) -> None:
    """Refuses a list of widths that is too short for a network."""
    if len(widths) < least:
        raise ValueError(f"widths is {list(widths)}, expected {least} or more: one for each level, fine to coarse")


def resize(x: torch.Tensor, size: list[int], mode: str) -> torch.Tensor:
    """Interpolates `x` linearly to a grid of `size`. The outer borders of the two grids coincide."""
    return F.interpolate(x, size=size, mode=mode, align_corners=False)
