"""The U-Net for short-axis slices of the heart, with overlapping pools; its skips start behind the pools."""

from collections.abc import Sequence

import torch
from monai.networks.layers import Conv, Pool
from torch import nn

from scripts.networks.blocks import Block, Network, check_widths


class CardiacUNet(Network):
    """U-Net for 96x96 slices of cardiac MR; returns logits.

    Each level of the encoder is a block of convolutions and a max-pool of size 3 and stride 2. Each level of the
    decoder is a block and a 3x3 transposed convolution of stride 2. From the second level on, its input is joined to
    the pooled output of the encoder. The last transposed convolution returns the classes. With the defaults it has
    12,255,896 parameters for 1 -> 4 channels; its authors finally used two convolutions per block.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included.
        widths: channels of each level, fine to coarse, two or more; every axis of the input must be a multiple of
            2^levels.
        convolutions: how many in a block, 1 or more.
        first_kernel_size: kernel of the first block's convolutions, odd.
        kernel_size: kernel of the other blocks' convolutions, odd.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation, likewise; None for none.
        dropout: share of the values dropped after each of the blocks' convolutions, in [0, 1).
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 4,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        convolutions: int = 3,
        first_kernel_size: int = 7,
        kernel_size: int = 3,
        act: str | tuple = "relu",
        norm: str | tuple | None = "batch",
        dropout: float = 0.0,
    ) -> None:
        check_widths(widths)
        super().__init__(2 ** len(widths), single_voxel=norm is None)

        def block(channels: int, width: int, kernel: int) -> Block:
            return Block(spatial_dims, channels, width, convolutions, kernel, act, norm, dropout=dropout)

        above = [in_channels, *widths[:-1]]
        kernels = [first_kernel_size] + [kernel_size] * (len(widths) - 1)
        joined = [widths[-1]] + [2 * width for width in widths[-2::-1]]  # a skip doubles what comes from below
        given = [*widths[-2::-1], out_channels]
        up = Conv[Conv.CONVTRANS, spatial_dims]
        self.encoder = nn.ModuleList([block(*sizes) for sizes in zip(above, widths, kernels)])
        self.pool = Pool[Pool.MAX, spatial_dims](3, stride=2, padding=1)
        self.decoder = nn.ModuleList([block(channels, width, kernel_size) for channels, width in zip(joined, given)])
        self.upsamplings = nn.ModuleList(
            [up(width, width, 3, stride=2, padding=1, output_padding=1) for width in given]
        )

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            x = self.pool(block(x, x))
            skips.append(x)
        for depth, (block, upsample) in enumerate(zip(self.decoder, self.upsamplings)):
            x = x if depth == 0 else torch.cat([x, skips[-1 - depth]], dim=1)
            x = upsample(block(x, x))
        return x
