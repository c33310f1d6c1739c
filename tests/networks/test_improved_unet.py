"""The network: shapes, parameter counts, gradients, sizes it refuses, export."""

import re

import pytest
import torch
from monai.networks.layers import Conv

from scripts.networks.improved_unet import ImprovedUNet, Standard

SMALL = {"features": 2, "levels": 3, "dropout": 0.0}
VARIANTS = [{"variant": "text"}, {"variant": "paper"}, {"variant": "light"}, {"spatial_dims": 2}]


def make(**arguments) -> ImprovedUNet:
    torch.manual_seed(0)
    return ImprovedUNet(**{**SMALL, **arguments})


def batch(dims: int = 3, channels: int = 1, size: int = 8, count: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, *[size] * dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "arguments, input_shape, output_shape",
    [
        ({}, (1, 1, 8, 8, 8), (1, 6, 8, 8, 8)),
        ({}, (2, 1, 4, 8, 12), (2, 6, 4, 8, 12)),
        ({"in_channels": 3, "out_channels": 2}, (1, 3, 8, 8, 8), (1, 2, 8, 8, 8)),
        ({"levels": 5}, (1, 1, 32, 32, 16), (1, 6, 32, 32, 16)),
        ({"levels": 4, "features": 3}, (1, 1, 8, 16, 8), (1, 6, 8, 16, 8)),
        ({"norm": "batch"}, (2, 1, 8, 8, 8), (2, 6, 8, 8, 8)),
        ({"act": "prelu", "norm": ("group", {"num_groups": 2})}, (1, 1, 8, 8, 8), (1, 6, 8, 8, 8)),
        ({"variant": "paper"}, (1, 1, 8, 8, 4), (1, 6, 8, 8, 4)),
        ({"variant": "light"}, (1, 1, 8, 8, 4), (1, 6, 8, 8, 4)),
        ({"variant": "paper", "levels": 4, "norm": "batch"}, (2, 1, 8, 8, 16), (2, 6, 8, 8, 16)),
        ({"spatial_dims": 2}, (1, 1, 8, 12), (1, 6, 8, 12)),
        ({"spatial_dims": 2, "in_channels": 2, "out_channels": 3, "levels": 5}, (1, 2, 32, 16), (1, 3, 32, 16)),
        ({"spatial_dims": 2, "variant": "paper", "norm": "batch"}, (2, 1, 4, 8), (2, 6, 4, 8)),
        ({"spatial_dims": 2, "variant": "light"}, (2, 1, 4, 8), (2, 6, 4, 8)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_shapes(arguments, input_shape, output_shape, training):
    network = make(**arguments).train(training)
    with torch.no_grad():
        assert network(torch.randn(input_shape)).shape == output_shape


@pytest.mark.parametrize("variant, count", [("text", 9_892_034), ("paper", 9_465_666), ("light", 7_440_946)])
def test_parameter_counts(variant, count):
    network = ImprovedUNet(variant=variant)
    assert sum(p.numel() for p in network.parameters()) == count
    assert all(p.requires_grad for p in network.parameters())


def test_defaults_are_the_published_settings():
    network = ImprovedUNet()
    assert [level.entry[0].out_channels for level in network.encoder] == [16, 32, 64, 128, 256]
    assert [level.context[1].p for level in network.encoder] == [0.3] * 5
    assert {m.negative_slope for m in network.modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.01}
    assert all(m.affine for m in network.modules() if isinstance(m, torch.nn.InstanceNorm3d))


@pytest.mark.parametrize("arguments", VARIANTS)
def test_every_parameter_gets_a_gradient(arguments):
    network = make(**arguments, levels=4)
    network(batch(network_dims(network), size=16)).square().mean().backward()
    cancelled = {id(m.bias) for s in network.modules() if isinstance(s, Standard) for m in s if is_conv(m)}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if id(parameter) not in cancelled:  # a bias before a normalisation cancels: its gradient is rounding error
            assert parameter.grad.abs().max() > 1e-7, name


def is_conv(module) -> bool:
    return isinstance(module, (Conv[Conv.CONV, 2], Conv[Conv.CONV, 3]))


def network_dims(network: ImprovedUNet) -> int:
    return len(network.encoder[0].entry[0].kernel_size)


@pytest.mark.parametrize("arguments", VARIANTS)
def test_a_context_module_adds_to_its_entry(arguments):
    level = make(**arguments).encoder[1]
    x = batch(len(level.entry[0].kernel_size), channels=2)
    with torch.no_grad():
        assert not torch.allclose(level(x), level.entry(x))
        for parameter in level.context.parameters():
            parameter.zero_()
        assert torch.equal(level(x), level.entry(x))


@pytest.mark.parametrize("arguments", VARIANTS)
def test_outputs_are_logits(arguments):
    network = make(**arguments).eval()
    with torch.no_grad():
        out = network(batch(network_dims(network)))
    assert out.min() < 0
    assert (out.sum(1) - 1).abs().min() > 0 and (out.sum(1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("arguments", VARIANTS)
def test_checkpointing_changes_neither_output_nor_gradients(arguments):
    plain, saving = make(**arguments), make(**arguments, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    computed = []
    for network in (plain, saving):
        network.encoder[0].register_forward_pre_hook(
            lambda _, inputs, name=network.checkpointing: computed.append(name)
        )
    x = batch(network_dims(plain))
    outputs = []
    for network in (plain, saving):
        outputs.append(network(x))
        outputs[-1].square().mean().backward()
    assert computed == [False, True, True]  # with checkpointing forward, and again for the backward pass
    torch.testing.assert_close(outputs[0], outputs[1])
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_checkpointing_computes_once_in_inference():
    network = make(checkpointing=True)
    assert network.recomputes()
    with torch.no_grad():
        assert not network.recomputes()
    assert not network.eval().recomputes()


def test_dropout_acts_in_training_only():
    network, x = make(dropout=0.5, features=8), batch()
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_no_dropout_no_chance():
    network, x = make(dropout=0.0), batch()
    with torch.no_grad():
        assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    "arguments, size",
    [
        ({"levels": 5}, (33, 32, 16)),
        ({"levels": 5}, (32, 32, 15)),
        ({"levels": 5}, (8, 8, 8)),
        ({"levels": 5}, (16, 16, 16)),  # one voxel at the coarsest level: nothing to normalise over
        ({"levels": 3}, (6, 8, 8)),
        ({"levels": 3, "variant": "paper"}, (8, 8, 9)),
        ({"levels": 3, "spatial_dims": 2}, (8, 10)),
        ({"levels": 4, "spatial_dims": 2}, (8, 8)),
    ],
)
def test_a_bad_size_is_refused_and_a_good_one_suggested(arguments, size):
    network = make(**arguments)
    with pytest.raises(ValueError) as caught:
        network(torch.zeros(1, 1, *size))
    message = str(caught.value)
    assert str(size) in message and f"multiple of {2 ** (arguments['levels'] - 1)}," in message
    suggested = [int(n) for n in re.search(r"\(([\d, ]+)\) would do", message)[1].split(",")]
    assert all(new >= old for new, old in zip(suggested, size, strict=True))
    assert network(torch.zeros(1, 1, *suggested)).shape[2:] == tuple(suggested)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"variant": "published"}, ["variant", "'published'", "text", "paper", "light"]),
        ({"levels": 2}, ["levels is 2", "3 or more"]),
        ({"dropout": 1.0}, ["dropout is 1.0", "[0, 1)"]),
        ({"dropout": -0.1}, ["dropout is -0.1", "[0, 1)"]),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError) as caught:
        make(**arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("arguments", [*VARIANTS, {"checkpointing": True}])
def test_scripted_network_agrees(arguments):
    network = make(**arguments, levels=4).eval()
    scripted = torch.jit.script(network)
    x = batch(network_dims(network), size=16)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x))


@pytest.mark.parametrize("arguments", VARIANTS)
def test_state_dict_round_trip(arguments, tmp_path):
    network = make(**arguments).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(7)
    other = ImprovedUNet(**{**SMALL, **arguments}).eval()
    x = batch(network_dims(network))
    with torch.no_grad():
        assert not torch.allclose(other(x), network(x))
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(other(x), network(x))


def test_no_module_is_registered_twice():
    names = [name for name, _ in make().named_modules(remove_duplicate=False)]
    assert len(names) == len(list(make().named_modules()))
