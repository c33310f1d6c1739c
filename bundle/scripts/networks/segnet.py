"""SegNet: the decoder puts values back to the positions of the maxima in the encoder."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Conv, Pool
from torch import nn

from scripts.networks.blocks import Network, check_widths


class SegNet(Network):
    """SegNet after Badrinarayanan et al. (PAMI 2017, arXiv 1511.00561), with VGG-16's 13 convolutions; returns logits.

    Each level of the encoder is convolutions and a max-pool of 2 that remembers the position of each maximum. Each
    level of the decoder puts the values back to these positions, with zeros elsewhere, and has as many convolutions;
    the last of them changes to the next width. Any size is possible: unpooling restores the grid before the pool.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included.
        widths: channels of each level, fine to coarse, one or more; every axis of the input must have 2^levels voxels
            or more.
        convolutions: how many on each level, in the order of `widths`.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation, likewise; None for none.
        dropout: share of the values dropped after each convolution, in [0, 1).
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 4,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convolutions: Sequence[int] = (2, 2, 3, 3, 3),
        act: str | tuple = "relu",
        norm: str | tuple | None = "batch",
        dropout: float = 0.0,
    ) -> None:
        check_widths(widths, 1)
        if len(widths) != len(convolutions):
            raise ValueError(f"{len(widths)} widths but {len(convolutions)} counts of convolutions: one for each level")
        super().__init__(2 ** len(widths))

        def level(channels: Sequence[int]) -> nn.Sequential:
            settings = {"act": act, "norm": norm, "dropout": dropout or None}
            return nn.Sequential(
                *[Convolution(spatial_dims, *pair, **settings) for pair in zip(channels, channels[1:])]
            )

        above = [in_channels, *widths[:-1]]
        levels = list(zip(above, widths, convolutions))
        down = [level([channels] + [width] * count) for channels, width, count in levels]
        up = [level([width] * count + [channels]) for channels, width, count in levels[:0:-1]]
        last = level([widths[0]] * convolutions[0])
        last.append(Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 3, padding=1))
        self.encoder = nn.ModuleList(down)
        self.pool = Pool[Pool.MAX, spatial_dims](2, return_indices=True)
        self.decoder = nn.ModuleList([*up, last])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        sizes: list[list[int]] = []
        places: list[torch.Tensor] = []
        for level in self.encoder:
            x = level(x)
            sizes.append(list(x.shape))
            x, found = self.pool(x)
            places.append(found)
        for depth, level in enumerate(self.decoder):
            x = level(unpool(x, places[-1 - depth], sizes[-1 - depth]))
        return x

    @torch.jit.unused
    def check_size(self, size: Sequence[int]) -> None:
        """Refuses a grid that is too small for the pools."""
        if not all(n >= self.divisor for n in size):
            better = tuple(max(n, self.divisor) for n in size)
            raise ValueError(
                f"spatial size {tuple(size)} does not fit {len(self.encoder)} levels: every axis must be "
                f"{self.divisor} or more; {better} would do"
            )


def unpool(x: torch.Tensor, places: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Returns zeros of `shape` with the values of `x` at their positions `places` in the flattened grid.

    This equals torch's MaxUnpool, which can't be scripted and is not deterministic on a GPU.
    """
    voxels = 1
    for n in shape[2:]:
        voxels = voxels * n
    zeros = torch.zeros([shape[0], shape[1], voxels], dtype=x.dtype, device=x.device)
    return zeros.scatter(2, places.flatten(2), x.flatten(2)).reshape(shape)
