"""Two fully convolutional networks without a decoder: their coarse logits are interpolated to the image's grid."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Conv, Dropout, Pool
from torch import nn

from scripts.networks.blocks import LINEAR, Network, check_widths, resize


class CoarseFCN(Network):
    """Runs its `layers` and interpolates their logits to the image's grid.

    Args:
        spatial_dims: 2 or 3.
        divisor: voxels of the image per voxel of the coarse logits, along each axis.
        layers: the layers that compute the coarse logits.
    """

    def __init__(self, spatial_dims: int, divisor: int, layers: Sequence[nn.Module]) -> None:
        super().__init__(divisor, single_voxel=True)
        self.layers = nn.Sequential(*layers)
        self.mode = LINEAR[spatial_dims]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return resize(self.layers(x), list(x.shape[2:]), self.mode)


class AlexNetFCN(CoarseFCN):
    """AlexNet (Krizhevsky et al., NeurIPS 2012) with convolutions in place of its classifier; returns logits.

    The five convolutions (11x11 with stride 4, 5x5, three 3x3), three pools and two wide layers with dropout are
    AlexNet's. Differences: pools are 2x2, so that cells of 32x32 voxels tile the image (the original's 3x3 pools
    overlap); the first wide layer is 3x3 (6x6 is larger than the map of a small image); there are no groups and no
    response normalisation. The logits of the cells are interpolated to the image's grid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included.
        widths: channels of the five convolutions.
        head_width: channels of the two wide layers.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        dropout: share of the values dropped before each of the wide layers, in [0, 1).
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 4,
        widths: Sequence[int] = (96, 256, 384, 384, 256),
        head_width: int = 4096,
        act: str | tuple = "relu",
        dropout: float = 0.5,
    ) -> None:
        if len(widths) != 5:
            raise ValueError(f"widths is {list(widths)}, expected five: one for each of AlexNet's convolutions")
        drop, pool = Dropout[Dropout.DROPOUT, 1], Pool[Pool.MAX, spatial_dims]

        def conv(channels: int, width: int, kernel: int, **settings) -> Convolution:
            return Convolution(spatial_dims, channels, width, kernel_size=kernel, act=act, norm=None, **settings)

        layers = [
            conv(in_channels, widths[0], 11, strides=4, padding=4),
            pool(2),
            conv(widths[0], widths[1], 5),
            pool(2),
            *[conv(widths[i], widths[i + 1], 3) for i in (1, 2, 3)],
            pool(2),
            drop(dropout),
            conv(widths[4], head_width, 3),
            drop(dropout),
            conv(head_width, head_width, 1),
            Conv[Conv.CONV, spatial_dims](head_width, out_channels, 1),
        ]
        super().__init__(spatial_dims, 32, layers)


class SmallFCN(CoarseFCN):
    """Small fully convolutional network after Ning et al. (IEEE Transactions on Image Processing 2005); returns logits.

    Convolutions with an average pool of 2 between them, then a layer of kernel size 1 for the classes. With the
    defaults there are two pools, so the published output is a quarter of the image's size. Here it is interpolated to
    the image's grid, as losses and metrics need it. Kernels are 7, 5, 5 in place of 7, 6, 6, because odd kernels can
    be padded evenly.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included.
        widths: channels of each convolution, two or more; every axis of the input must be a multiple of
            2^(their count - 1).
        kernel_sizes: of each convolution, odd.
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 4,
        widths: Sequence[int] = (6, 16, 40),
        kernel_sizes: Sequence[int] = (7, 5, 5),
        act: str | tuple = "tanh",
    ) -> None:
        check_widths(widths)
        if len(widths) != len(kernel_sizes):
            raise ValueError(f"{len(widths)} widths but {len(kernel_sizes)} kernel sizes: one for each convolution")
        layers: list[nn.Module] = []
        for channels, width, kernel in zip([in_channels, *widths], widths, kernel_sizes):
            if layers:
                layers.append(Pool[Pool.AVG, spatial_dims](2))
            layers.append(Convolution(spatial_dims, channels, width, kernel_size=kernel, act=act, norm=None))
        layers.append(Conv[Conv.CONV, spatial_dims](widths[-1], out_channels, 1))
        super().__init__(spatial_dims, 2 ** (len(widths) - 1), layers)
