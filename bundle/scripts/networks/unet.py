"""The plain U-Net, with or without shortcuts around its blocks."""

from collections.abc import Sequence

import torch
from monai.networks.layers import Conv, Pool
from torch import nn

from scripts.networks.blocks import Block, PooledEncoderNetwork, check_widths


class UNet(PooledEncoderNetwork):
    """U-Net after Ronneberger et al. (MICCAI 2015, arXiv 1505.04597) with padded convolutions; returns logits.

    Each level of the encoder is a block of convolutions and a max-pool of 2; there is a block at the bottom; each level
    of the decoder is a transposed convolution of kernel size and stride 2, joined to the skip, and a block. The
    defaults are a network for MR slices without normalisation; it has 7,696,518 parameters for 1 -> 6 channels. Widths
    32 to 512 with batch norm and no bias are a network for brain MR; it has 7,763,041 parameters for 3 -> 1 channels,
    7,938,209 with shortcuts.

    MONAI's BasicUNet has five levels, two convolutions and no shortcuts, and its last upsampling keeps its width.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included; or 1 for a single structure.
        widths: channels of each level, fine to coarse, two or more; every axis of the input must be a multiple of
            2^(levels - 1).
        convolutions: how many in a block, 1 or more.
        kernel_size: of the blocks' convolutions, odd.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation, likewise; None for none.
        bias: whether the blocks' convolutions have a bias.
        dropout: share of the values dropped after each of the blocks' convolutions, in [0, 1).
        shortcut: add a block's input before its last activation, through a 1x1 convolution where the widths differ; in
            the decoder, the output of the transposed convolution itself.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 6,
        widths: Sequence[int] = (64, 128, 256, 512),
        convolutions: int = 2,
        kernel_size: int = 3,
        act: str | tuple = "relu",
        norm: str | tuple | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        shortcut: bool = False,
    ) -> None:
        check_widths(widths)
        super().__init__(2 ** (len(widths) - 1), single_voxel=norm is None)

        def block(channels: int, width: int, source: int) -> Block:
            settings = (convolutions, kernel_size, act, norm, bias, dropout, source if shortcut else None)
            return Block(spatial_dims, channels, width, *settings)

        above = [in_channels, *widths[:-1]]
        joined = list(zip(widths[:0:-1], widths[-2::-1]))  # (coarser, finer), from the bottom up
        up = Conv[Conv.CONVTRANS, spatial_dims]
        self.encoder = nn.ModuleList([block(channels, width, channels) for channels, width in zip(above, widths)])
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        self.upsamplings = nn.ModuleList([up(coarse, fine, 2, stride=2) for coarse, fine in joined])
        self.decoder = nn.ModuleList([block(2 * fine, fine, fine) for _, fine in joined])
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        skips = self.encode(x)
        x = skips[-1]
        for depth, (upsample, block) in enumerate(zip(self.upsamplings, self.decoder)):
            x = upsample(x)
            x = block(torch.cat([x, skips[-2 - depth]], dim=1), x)
        return self.head(x)
