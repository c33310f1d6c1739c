"""ResNeXt-50 32x4d without its classifier, with the parameter names of torchvision. `resnext_unet.py` uses it."""

from pathlib import Path

import torch
from monai.networks.layers import Act, Conv, Norm
from torch import nn

from scripts.core.errors import UserError

BLOCKS = (3, 4, 6, 3)  # of each stage
GROUPS = 32
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 convolution, grouped 3x3 convolution, 1x1 convolution, added to the input.

    Args:
        dims: 2 or 3.
        in_channels: channels of the input.
        planes: a quarter of the output's channels, half of the grouped convolution's.
        stride: of the grouped convolution.
    """

    def __init__(self, dims: int, in_channels: int, planes: int, stride: int) -> None:
        super().__init__()
        conv, norm, width, out_channels = Conv[Conv.CONV, dims], Norm[Norm.BATCH, dims], 2 * planes, EXPANSION * planes
        self.conv1 = conv(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride=stride, padding=1, groups=GROUPS, bias=False)
        self.bn2 = norm(width)
        self.conv3 = conv(width, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.relu = Act[Act.RELU](inplace=True)
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            shortcut = conv(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            x = self.downsample(x)
        return self.relu(out + x)


class ResNeXt50(nn.Module):
    """ResNeXt-50 32x4d (Xie et al., CVPR 2017, arXiv 1611.05431) as an encoder: no classifier, no pool in the stem.

    MONAI's ResNet has no groups and its SEResNext50 adds squeeze and excitation. 22,979,904 parameters for 3 channels.

    Args:
        spatial_dims: 2 or 3; weights of photographs fit 2 only.
        in_channels: channels of the image; weights of photographs fit 3 only.
    """

    def __init__(self, spatial_dims: int = 2, in_channels: int = 3) -> None:
        super().__init__()

        def stage(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
            first = Bottleneck(spatial_dims, channels, planes, stride)
            others = [Bottleneck(spatial_dims, EXPANSION * planes, planes, 1) for _ in range(blocks - 1)]
            return nn.Sequential(first, *others)

        self.conv1 = Conv[Conv.CONV, spatial_dims](in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = Norm[Norm.BATCH, spatial_dims](64)
        self.relu = Act[Act.RELU](inplace=True)
        self.layer1 = stage(64, 64, BLOCKS[0], 1)
        self.layer2 = stage(256, 128, BLOCKS[1], 2)
        self.layer3 = stage(512, 256, BLOCKS[2], 2)
        self.layer4 = stage(1024, 512, BLOCKS[3], 2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns the outputs of the four stages, with 256, 512, 1024 and 2048 channels. Each stage halves the grid."""
        x1 = self.layer1(self.relu(self.bn1(self.conv1(x))))
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        return [x1, x2, x3, self.layer4(x3)]

    @torch.jit.unused
    def load(self, path: str | Path) -> None:
        """Loads the weights of torchvision's `resnext50_32x4d`, without those of the classifier. All others must fit.

        Args:
            path: file of a state dictionary, as torchvision publishes it for ImageNet.

        Raises:
            UserError: the file is not readable or does not fit.
        """
        expected = self.state_dict()
        given = {str(name): value for name, value in read_state_dict(path).items() if not str(name).startswith("fc.")}
        needed = [name for name in expected if not name.endswith("num_batches_tracked")]  # not in older files
        wrong = [f"has no {name}" for name in needed if name not in given]
        wrong += [f"{name} is unknown" for name in given if name not in expected]
        wrong += [
            f"{name} is {shape_text(given[name])}, expected {shape_text(value)}"
            for name, value in expected.items()
            if name in given and shape_text(given[name]) != shape_text(value)
        ]
        if wrong:
            raise UserError(
                f"encoder_weights: {path} does not fit a ResNeXt-50 32x4d of {self.conv1.in_channels} channels in "
                f"{self.conv1.weight.ndim - 2}D: {wrong[0]}{f' and {len(wrong) - 1} more' if wrong[1:] else ''}; "
                "give the file of torchvision's resnext50_32x4d, or leave it out"
            )
        self.load_state_dict(expected | given)


def read_state_dict(path: str | Path) -> dict:
    """Reads a state dictionary from a file, without running code in it."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise UserError(
            f"encoder_weights: {path} not readable as weights ({type(error).__name__}); give another file"
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"encoder_weights: {path} contains a {type(content).__name__}, expected a dictionary of tensors; "
            "give the file of torchvision's resnext50_32x4d"
        )
    return content


def shape_text(value) -> str:
    """Returns the shape of a tensor as text; for anything else, the name of its type."""
    return "x".join(map(str, value.shape)) or "a number" if isinstance(value, torch.Tensor) else type(value).__name__
