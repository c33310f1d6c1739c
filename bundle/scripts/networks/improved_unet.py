"""The Improved 3D UNet: context modules in the encoder, localisation modules in the decoder, and the sum of class maps
of three levels."""

from collections.abc import Sequence

import torch
from monai.networks.layers import Act, Conv, Dropout, Norm
from monai.networks.layers.utils import get_act_layer, get_norm_layer
from torch import nn
from torch.utils.checkpoint import checkpoint

VARIANTS = ("text", "paper", "light")


class Standard(nn.Sequential):
    """A convolution followed by normalisation and activation; with `pre_activation` these two come first."""

    def __init__(self, dims, in_channels, out_channels, kernel, act, norm, stride=1, pre_activation=False):
        conv = Conv[Conv.CONV, dims](in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)
        norm_layer = get_norm_layer(norm, dims, in_channels if pre_activation else out_channels)
        act_layer = get_act_layer(act)
        super().__init__(*((norm_layer, act_layer, conv) if pre_activation else (conv, norm_layer, act_layer)))


class ContextLevel(nn.Module):
    """An entry convolution (below level 0 it halves the grid), plus a residual of two 3x3x3 modules with dropout."""

    def __init__(self, dims, in_channels, out_channels, stride, dropout, act, norm, pre_activation):
        super().__init__()
        self.entry = Standard(dims, in_channels, out_channels, 3, act, norm, stride)
        self.context = nn.Sequential(
            Standard(dims, out_channels, out_channels, 3, act, norm, pre_activation=pre_activation),
            Dropout[Dropout.DROPOUT, dims](dropout),
            Standard(dims, out_channels, out_channels, 3, act, norm, pre_activation=pre_activation),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        return x + self.context(x)


class ImprovedUNet(nn.Module):
    """Improved 3D UNet after Isensee et al. (BraTS 2017, arXiv 1802.10508); returns logits.

    The width of level i is f(i) = `features` * 2^i. Level i of the encoder is an entry convolution f(i-1) -> f(i) and a
    residual context module. Level i of the decoder upsamples f(i+1) -> f(i), joins the skip, and reduces 2 f(i) -> f(i)
    in a localisation module. The class maps of the three finest levels are upscaled linearly and summed.

    The default variant, "text", differs from the paper in four points. Context modules are convolution, normalisation,
    activation, in this order (the paper: convolution last). Upsampling is a 4x4x4 transposed convolution (the paper:
    nearest neighbour, then a 3x3x3 module). The 3x3x3 convolution of a localisation module halves the channels (the
    paper: the 1x1x1). The network returns logits, because softmax is part of the loss and of the post-processing.
    Variant "paper" follows the paper in the first three. Variant "light" is "text" with less work where the grid is
    finest: it upsamples by a 2x2x2 transposed convolution, and the last module halves the channels. For 1 -> 6 channels
    and 16 features the three variants have 9,892,034, 9,465,666 and 7,440,946 parameters.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, 1 or more.
        out_channels: classes, background included.
        features: width of the first level; it doubles with each level.
        levels: resolutions, 3 or more; every axis of the input must be a multiple of 2^(levels - 1).
        dropout: share of the channels dropped between the two convolutions of a context module, in [0, 1).
        act: activation, a name or (name, arguments) as MONAI's `Act` knows them.
        norm: normalisation, likewise.
        variant: "text", "paper" or "light".
        checkpointing: keep only the levels' outputs for the backward pass and compute everything else again. This
            needs less memory for large volumes, and about 1.5 times as long.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 6,
        features: int = 16,
        levels: int = 5,
        dropout: float = 0.3,
        act: str | tuple = (Act.LEAKYRELU, {"negative_slope": 0.01, "inplace": True}),
        norm: str | tuple = (Norm.INSTANCE, {"affine": True}),
        variant: str = "text",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}, expected one of {', '.join(VARIANTS)}")
        if levels < 3:
            raise ValueError(f"levels is {levels}, expected 3 or more: class maps are taken from three of them")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}, expected a share in [0, 1)")
        paper, light = variant == "paper", variant == "light"
        self.checkpointing = checkpointing
        self.divisor = 2 ** (levels - 1)
        widths = [features * 2**level for level in range(levels)]
        joined = list(reversed(widths[:-1]))  # widths of the decoder's levels, coarse to fine

        def context(level: int) -> nn.Module:
            below = in_channels if level == 0 else widths[level - 1]
            stride = 1 if level == 0 else 2
            return ContextLevel(spatial_dims, below, widths[level], stride, dropout, act, norm, paper)

        def upsample(width: int) -> nn.Module:
            if paper:
                nearest = nn.Upsample(scale_factor=2.0, mode="nearest")
                return nn.Sequential(nearest, Standard(spatial_dims, 2 * width, width, 3, act, norm))
            kernel, padding = (2, 0) if light else (4, 1)
            return Conv[Conv.CONVTRANS, spatial_dims](2 * width, width, kernel, stride=2, padding=padding)

        def localise(width: int) -> nn.Module:
            if width == features:  # the finest level is one module
                return Standard(spatial_dims, 2 * width, last, 3, act, norm)
            between = 2 * width if paper else width
            return nn.Sequential(
                Standard(spatial_dims, 2 * width, between, 3, act, norm),
                Standard(spatial_dims, between, width, 1, act, norm),
            )

        last = features if light else 2 * features  # what the last module leaves
        self.encoder = nn.ModuleList([context(level) for level in range(levels)])
        self.upsamplings = nn.ModuleList([upsample(width) for width in joined])
        self.localisations = nn.ModuleList([localise(width) for width in joined])
        segmented = [4 * features, 2 * features, last]  # maps of levels 2 and 1, and of the last module
        self.segmentations = nn.ModuleList([Conv[Conv.CONV, spatial_dims](n, out_channels, 1) for n in segmented])
        self.upscale = nn.Upsample(scale_factor=2.0, mode="trilinear" if spatial_dims == 3 else "bilinear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, out_channels, *spatial) of an image (batch, in_channels, *spatial)."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self.check_size(x.shape[2:])
        return self.decode(self.encode(x))

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the output of every level, fine to coarse. The last one is the start of the decoder."""
        outputs: list[torch.Tensor] = []
        for level in self.encoder:
            if not torch.jit.is_scripting() and self.recomputes():
                x = checkpoint(level, x, use_reentrant=False)
            else:
                x = level(x)
            outputs.append(x)
        return outputs

    def decode(self, skips: list[torch.Tensor]) -> torch.Tensor:
        """Returns the logits: upsamples to the input's grid and sums the class maps of three levels."""
        x = skips[-1]
        read: list[torch.Tensor] = [x]  # with three levels the coarsest one is segmented as well
        for depth, (upsample, localise) in enumerate(zip(self.upsamplings, self.localisations)):
            joined = torch.cat([upsample(x), skips[-2 - depth]], dim=1)
            if not torch.jit.is_scripting() and self.recomputes():
                x = checkpoint(localise, joined, use_reentrant=False)
            else:
                x = localise(joined)
            read.append(x)
        read = read[-3:]
        logits: torch.Tensor = torch.zeros(0)
        for i, segment in enumerate(self.segmentations):
            logits = segment(read[i]) if i == 0 else segment(read[i]) + self.upscale(logits)
        return logits

    @torch.jit.unused
    def recomputes(self) -> bool:
        """Returns whether intermediate results are discarded now and computed again in the backward pass."""
        return self.checkpointing and self.training and torch.is_grad_enabled()

    @torch.jit.unused
    def check_size(self, size: Sequence[int]) -> None:
        """Refuses a grid that can't be halved down to the coarsest level, or has a single voxel there."""
        fits = all(n % self.divisor == 0 for n in size) and any(n > self.divisor for n in size)
        if not fits:
            better = [max(2, -(-n // self.divisor)) * self.divisor for n in size]
            raise ValueError(
                f"spatial size {tuple(size)} does not fit {len(self.encoder)} levels: every axis must be a multiple "
                f"of {self.divisor}, and one larger than {self.divisor}; {tuple(better)} would do"
            )
