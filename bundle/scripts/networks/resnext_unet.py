"""A U-Net with ResNeXt-50 as its encoder, which can start from weights trained on photographs."""

import torch
from monai.networks.layers import Act, Conv
from torch import nn

from scripts.networks.blocks import Network
from scripts.networks.resnext import ResNeXt50


class Upsampling(nn.Sequential):
    """Reduces the channels to a quarter, doubles the grid by a transposed convolution, then sets `out_channels`."""

    def __init__(self, dims: int, in_channels: int, out_channels: int) -> None:
        conv, quarter = Conv[Conv.CONV, dims], in_channels // 4
        super().__init__(
            conv(in_channels, quarter, 1),
            Act[Act.RELU](),
            Conv[Conv.CONVTRANS, dims](quarter, quarter, 4, stride=2, padding=1),
            conv(quarter, out_channels, 1),
            Act[Act.RELU](),
        )


class ResNeXtUNet(Network):
    """U-Net with ResNeXt-50 32x4d as encoder and skips that are added; returns logits.

    The stem halves the grid once (it has no max-pool), and so do three of the four stages. Four upsamplings
    2048 -> 1024 -> 512 -> 256 -> 256 channels restore the grid; the outputs of the stages are added to the first
    three. 30,947,777 parameters for 3 -> 1 channels, 22,979,904 of them in the encoder.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more; 3 with weights.
        out_channels: classes, background included; or 1 for a single structure.
        head_width: channels between the two convolutions of the head.
        encoder_weights: file of torchvision's `resnext50_32x4d` to start from; None for random weights.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        head_width: int = 128,
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__(16)
        widths = (2048, 1024, 512, 256, 256)
        conv = Conv[Conv.CONV, spatial_dims]
        self.encoder = ResNeXt50(spatial_dims, in_channels)
        self.decoder = nn.ModuleList([Upsampling(spatial_dims, *pair) for pair in zip(widths, widths[1:])])
        self.head = nn.Sequential(
            conv(widths[-1], head_width, 3, padding=1), Act[Act.RELU](), conv(head_width, out_channels, 3, padding=1)
        )
        if encoder_weights is not None:
            self.encoder.load(encoder_weights)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        skips = self.encoder(x)
        x = skips[-1]
        for depth, upsample in enumerate(self.decoder):
            x = upsample(x)
            if depth < 3:  # the stem has no skip
                x = x + skips[2 - depth]
        return self.head(x)
