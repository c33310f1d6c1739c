"""What is the encoder of a network, and which axes of its tensors stand for classes and channels: for all by name."""

import json

import pytest
import torch
from conftest import CONFIGS
from helpers import refusal
from monai.bundle import ConfigParser
from torch import nn

from scripts.networks.encoders import encoder_names, tensor_names
from scripts.networks.growth import growing_axes

ENTRIES = {name: entry for name, entry in json.loads((CONFIGS / "networks.json").read_text()).items() if name[0] != "_"}


def build(name: str, dims: int = 2, **given) -> nn.Module:
    knobs = {"spatial_dims": dims, "in_channels": 2, "out_channels": 4, "features": 4, "dropout": 0.0}
    content = json.loads(json.dumps(ENTRIES[name]))
    return ConfigParser({**knobs, "encoder_weights": None, **given, "network_def": content}).get_parsed_content(
        "network_def"
    )


def run_order(network: nn.Module, size: list[int]) -> list[tuple[str, int]]:
    """The layers with weights in the order in which they run, each with the voxels of its output."""
    ran: list[tuple[str, int]] = []

    def note(name: str, output) -> None:
        first = output if isinstance(output, torch.Tensor) else output[0]
        ran.append((name, first[0, 0].numel()))

    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, inputs, output, name=name: note(name, output))
    network(torch.empty(1, 2, *size, device="meta"))
    return ran


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", list(ENTRIES))
def test_the_encoder_is_what_runs_down_to_the_coarsest_grid(name, dims):
    """All that runs before the grid is coarsest belongs to it, and nothing that runs after the grid has grown again."""
    with torch.device("meta"):
        network = build(name, dims)
    encoder = {tensor.rpartition(".")[0] for tensor in encoder_names(network)}
    weighted = {tensor.rpartition(".")[0] for tensor in tensor_names(network)}
    ran = run_order(network, [64] * dims)
    coarsest = min(size for _, size in ran)
    reached = next(i for i, (_, size) in enumerate(ran) if size == coarsest)
    grown = next((i for i, (_, size) in enumerate(ran) if i > reached and size > coarsest), len(ran))
    before = {layer for layer, _ in ran[:reached]} & weighted
    after = {layer for layer, _ in ran[grown:]}
    assert before and before <= encoder and not encoder & after
    assert encoder < weighted


@pytest.mark.parametrize("name", list(ENTRIES))
def test_images_enter_the_encoder_and_classes_leave_the_rest(name):
    classes = growing_axes(lambda count: build(name, out_channels=count), 4)
    channels = growing_axes(lambda count: build(name, in_channels=count), 2)
    with torch.device("meta"):
        network = build(name)
    encoder, known = set(encoder_names(network)), set(tensor_names(network))
    assert channels and set(channels) & known <= encoder
    assert classes and not set(classes) & encoder
    shapes = {tensor: value.shape for tensor, value in network.state_dict().items()}
    assert all(shapes[tensor][axis] == 4 for tensor, axes in classes.items() for axis in axes)
    assert all(shapes[tensor][axis] == 2 for tensor, axes in channels.items() for axis in axes)


def test_axes_inside_the_last_blocks_are_found():
    """Where the width of the last block is the number of classes, both axes of its kernels stand for them."""
    found = growing_axes(lambda count: build("cardiac_unet", out_channels=count), 4)
    assert found["decoder.4.convolutions.1.conv.weight"] == found["upsamplings.4.weight"] == (0, 1)
    assert growing_axes(lambda count: build("monai_unet", out_channels=count), 4)["model.2.0.conv.weight"] == (1,)


def test_a_network_that_depends_on_its_classes_in_another_way_is_refused():
    with pytest.raises(ValueError, match="0.weight"):
        growing_axes(lambda count: nn.Sequential(nn.Conv2d(1, 2 * count, 1)), 3)
    with pytest.raises(ValueError, match="other parts"):
        growing_axes(lambda count: nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(count)]), 3)
    assert growing_axes(lambda count: nn.Conv2d(1, 5, 1), 5) == {}


def test_an_unknown_encoder_can_be_named():
    network = nn.ModuleDict({"down": nn.Conv2d(1, 2, 3), "up": nn.Conv2d(2, 1, 3), "downs": nn.Conv2d(1, 2, 3)})
    message = refusal(encoder_names, network)
    assert "ModuleDict" in message and "down, up, downs" in message and "--freezing::modules" in message
    assert encoder_names(network, ["down"]) == ["down.weight", "down.bias"]
    assert "['left']" in refusal(encoder_names, network, ["left"])


def test_a_tensor_that_a_network_holds_twice_is_named_once():
    with torch.device("meta"):
        network = build("dynunet")
    names = tensor_names(network)
    assert len(names) == len(set(names)) < len(network.state_dict())
