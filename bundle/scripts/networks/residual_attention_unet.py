"""The residual attention U-Net: a shortcut around every block, an attention gate on every skip."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Act, Conv, Norm, Pool, get_act_layer
from torch import nn

from scripts.networks.blocks import LINEAR, Block, PooledEncoderNetwork, check_widths


class Gate(nn.Module):
    """Additive attention: multiplies a skip by a map in (0, 1), computed from the skip and from the decoder's signal.

    Args:
        dims: 2 or 3.
        signal: channels of the decoder's signal, which is on the grid of the skip.
        skip: channels of the skip.
        inner: channels of the sum of the two.
        act: activation of the sum.
        norm: normalisation of the two; the map has a group norm with one group. None for no normalisation.
    """

    def __init__(self, dims: int, signal: int, skip: int, inner: int, act, norm) -> None:
        super().__init__()
        one = None if norm is None else (Norm.GROUP, {"num_groups": 1})
        self.signal = Convolution(dims, signal, inner, kernel_size=1, act=None, norm=norm)
        self.skip = Convolution(dims, skip, inner, kernel_size=1, act=None, norm=norm)
        self.act = get_act_layer(act)
        self.map = Convolution(dims, inner, 1, kernel_size=1, act=Act.SIGMOID, norm=one)

    def forward(self, signal: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return skip * self.map(self.act(self.signal(signal) + self.skip(skip)))


class ResidualAttentionUNet(PooledEncoderNetwork):
    """U-Net of residual blocks with additive attention gates (arXiv 1804.03999) on its skips; returns logits.

    Each block is two convolutions with group norm and leaky ReLU. Its input is added before the last activation, after
    a 1x1x1 convolution if the widths differ. The encoder uses max-pooling, the decoder linear interpolation; the
    interpolated signal controls the gate and is joined to the gated skip. The convolutions of the blocks have no bias.

    MONAI's AttentionUnet has batch norm, no shortcuts, strides in place of pooling and transposed convolutions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included.
        widths: channels of each level, fine to coarse, two or more; every axis of the input must be a multiple of
            2^(levels - 1).
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation, likewise; groups must divide half of every width. None for none.
        dropout: share of the values dropped after each of the blocks' convolutions, in [0, 1).
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 6,
        widths: Sequence[int] = (32, 64, 128, 256),
        act: str | tuple = Act.LEAKYRELU,
        norm: str | tuple | None = (Norm.GROUP, {"num_groups": 8}),
        dropout: float = 0.0,
    ) -> None:
        check_widths(widths)
        super().__init__(2 ** (len(widths) - 1), single_voxel=norm is None)

        def block(channels: int, width: int) -> Block:
            settings: dict[str, Any] = {
                "act": act,
                "norm": norm,
                "dropout": dropout,
                "bias": False,
                "shortcut_bias": False,
            }
            return Block(spatial_dims, channels, width, shortcut=channels, **settings)

        above = [in_channels, *widths[:-1]]
        joined = list(zip(widths[:0:-1], widths[-2::-1]))  # (coarser, finer), from the bottom up
        gates = [Gate(spatial_dims, coarse, fine, fine // 2, act, norm) for coarse, fine in joined]
        self.encoder = nn.ModuleList([block(channels, width) for channels, width in zip(above, widths)])
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        self.upsample = nn.Upsample(scale_factor=2.0, mode=LINEAR[spatial_dims])
        self.gates = nn.ModuleList(gates)
        self.decoder = nn.ModuleList([block(coarse + fine, fine) for coarse, fine in joined])
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        skips = self.encode(x)
        x = skips[-1]
        for depth, (gate, block) in enumerate(zip(self.gates, self.decoder)):
            x = self.upsample(x)
            x = torch.cat([x, gate(x, skips[-2 - depth])], dim=1)
            x = block(x, x)
        return self.head(x)
