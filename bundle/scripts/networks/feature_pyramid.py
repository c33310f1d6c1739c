"""The feature pyramid network: all levels are upsampled to one grid, and their sum is segmented."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Conv, Norm, Pool
from torch import nn

from scripts.networks.blocks import LINEAR, Block, Network, check_widths


class FeaturePyramid(Network):
    """Feature pyramid network for segmentation (Kirillov et al., CVPR 2019, arXiv 1901.02446); returns logits.

    The encoder has five blocks of two convolutions, each followed by a max-pool of 2. In the pyramid, each level is the
    linearly upsampled coarser level plus a 1x1 convolution of the encoder's map, smoothed by a 3x3 convolution. Each
    level is upsampled to a quarter of the image's size by convolutions; their sum is segmented and upsampled to the
    image's size. 25,242,561 parameters for 3 -> 1 channels.

    MONAI's FeaturePyramidNetwork upsamples by nearest neighbour, also smooths the coarsest level, and has no more than
    the pyramid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included; or 1 for a single structure.
        widths: channels of each block, fine to coarse, three or more; every axis of the input must be a multiple of
            2^blocks.
        pyramid_width: channels of every level of the pyramid, a multiple of the groups of `pyramid_norm`.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation of the blocks, likewise; None for none.
        pyramid_norm: normalisation of the pyramid, likewise.
        dropout: share of the values dropped after each of the blocks' convolutions, in [0, 1).
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        pyramid_width: int = 256,
        act: str | tuple = "relu",
        norm: str | tuple | None = "batch",
        pyramid_norm: str | tuple | None = (Norm.GROUP, {"num_groups": 32}),
        dropout: float = 0.0,
    ) -> None:
        check_widths(widths, 3)
        super().__init__(2 ** len(widths), single_voxel=True)
        conv = Conv[Conv.CONV, spatial_dims]
        used = widths[:0:-1]  # all but the finest block's, coarse to fine

        def chain(upsamplings: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for i in range(max(1, upsamplings)):
                layers.append(
                    Convolution(spatial_dims, pyramid_width, pyramid_width, act=act, norm=pyramid_norm, bias=False)
                )
                if i < upsamplings:
                    layers.append(nn.Upsample(scale_factor=2.0, mode=LINEAR[spatial_dims]))
            return nn.Sequential(*layers)

        def block(channels: int, width: int) -> Block:
            return Block(spatial_dims, channels, width, act=act, norm=norm, bias=False, dropout=dropout)

        self.encoder = nn.ModuleList([block(*pair) for pair in zip([in_channels, *widths], widths)])
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        self.laterals = nn.ModuleList([conv(width, pyramid_width, 1) for width in used])
        self.upsample = nn.Upsample(scale_factor=2.0, mode=LINEAR[spatial_dims])
        self.smoothings = nn.ModuleList(
            [nn.Identity(), *[conv(pyramid_width, pyramid_width, 3, padding=1) for _ in used[1:]]]
        )
        self.chains = nn.ModuleList([chain(upsamplings) for upsamplings in reversed(range(len(used)))])
        self.head = conv(pyramid_width, out_channels, 1)
        self.enlarge = nn.Upsample(scale_factor=4.0, mode=LINEAR[spatial_dims])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = []
        for block in self.encoder:
            x = self.pool(block(x, x))
            maps.append(x)
        level = x  # replaced at once: the names are for TorchScript, which must know them before the loop
        total = x
        for depth, (lateral, smooth, chain) in enumerate(zip(self.laterals, self.smoothings, self.chains)):
            own = lateral(maps[-1 - depth])
            level = own if depth == 0 else self.upsample(level) + own
            read = chain(smooth(level))
            total = read if depth == 0 else total + read
        return self.enlarge(self.head(total))
