"""Half precision is used only in the network, and only if it is switched on."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from scripts.networks.bfloat16 import (
    LAYOUTS,
    ChannelsLastInstanceNorm,
    HalfInferer,
    SmallConv2d,
    SmallConv3d,
    put_channels_last,
    supports_bfloat16,
)
from scripts.networks.improved_unet import ImprovedUNet


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 1))


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((8, 8, 8))])
def test_scores_are_near_and_gradients_reach_the_weights(inferer):
    made, x = network(), torch.rand(1, 1, 8, 8, 8)
    full = HalfInferer(False, inferer)(x, made)
    assert torch.equal(full, made(x))
    half = HalfInferer(True, inferer)(x, made)
    assert half.dtype == torch.float32 and not torch.equal(half, full)
    assert torch.allclose(half, full, atol=0.02)
    half.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in made.parameters())


@pytest.mark.parametrize(
    "flags, used, expected",
    [
        ({}, "AVX512", False),
        ({"avx512_bf16": True}, "AVX512", True),
        ({"amx_bf16": True}, "AVX512", True),
        ({"avx512_bf16": True}, "AVX2", False),
    ],
)
def test_a_cpu_is_asked_what_it_can_and_torch_what_it_uses(flags, used, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    assert supports_bfloat16("cpu") is supports_bfloat16(torch.device("cpu")) is expected


def test_a_torch_that_can_not_tell_does_without(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert supports_bfloat16("cpu") is False


def test_normalisation_is_torchs_own_and_leaves_channels_last():
    norm = nn.InstanceNorm3d(5, affine=True)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 4, 6, 8).contiguous(memory_format=torch.channels_last_3d)
    made = ChannelsLastInstanceNorm(norm)(x)
    assert torch.allclose(made, norm(x), atol=1e-5)
    assert made.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_laid_out_network_gives_the_same_scores_and_never_moves_the_channels(dims):
    torch.manual_seed(0)
    made = ImprovedUNet(spatial_dims=dims, features=4, levels=3, out_channels=3, dropout=0.0).eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    x = torch.rand(2, 1, *(16,) * dims)
    full = made(x)
    put_channels_last(made)
    moved = []

    def look(module, inputs, output):
        if not output.is_contiguous(memory_format=LAYOUTS[dims + 2]):
            moved.append(type(module).__name__)

    assert torch.allclose(made(x), full, atol=1e-4)
    for module in made.modules():
        module.register_forward_hook(look)
    HalfInferer(True)(x, made)
    assert not moved or not supports_bfloat16("cpu")  # without the instructions torch has other convolutions
    after = made.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("enabled, frozen, expected", [(True, True, True), (True, False, False), (False, True, False)])
def test_only_a_network_that_is_trained_no_more_is_laid_out(enabled, frozen, expected):
    made = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.Conv3d(4, 2, 1)).eval()
    inferer, x = HalfInferer(enabled, frozen=frozen), torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        full, half = made(x), inferer(x, made)
        assert torch.equal(inferer(x, made), half)
    assert isinstance(made[1], ChannelsLastInstanceNorm) is expected
    assert torch.allclose(half, full, atol=0.05)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_network_that_another_program_has_wrapped_is_run_as_it_is(frozen):
    made, x = network(), torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        half = HalfInferer(True, frozen=frozen)(x, lambda inputs: made(inputs))
        assert half.dtype == torch.float32 and not torch.equal(half, made(x))
        assert torch.allclose(half, made(x), atol=0.02)


@pytest.mark.parametrize(
    "kernel, size, small",
    [
        (3, (2, 5, 4), True),
        (5, (4, 5, 5), True),
        (3, (1, 5, 4), True),
        (3, (3, 5, 4), False),
        (7, (8, 2, 2), True),
        (7, (2, 2), True),
        (7, (8, 9), False),
    ],
)
def test_a_kernel_larger_than_its_input_has_complete_gradients(kernel, size, small):
    """A gradient that is not written would show the NaN in the freed memory."""
    torch.manual_seed(0)
    kind = nn.Conv3d if len(size) == 3 else nn.Conv2d
    made = nn.Sequential(kind(16, 32, kernel, padding=kernel // 2, bias=False))
    x, inferer = torch.rand(1, 16, *size), HalfInferer(True)
    (full,) = torch.autograd.grad(made(x).square().sum(), made[0].weight)
    for _ in range(20):
        for freed in (1_000, 20_000, 50_000):
            torch.full((freed,), torch.nan, dtype=torch.bfloat16)
        made.zero_grad()
        inferer(x, made).square().sum().backward()
        assert (made[0].weight.grad - full).norm() < (1e-5 if small else 0.02) * full.norm()
    assert type(made[0]) is (SmallConv3d if len(size) == 3 else SmallConv2d) and list(made.state_dict()) == ["0.weight"]


def test_networks_that_save_memory_are_corrected_too():
    """Their layers run again in the backward pass, outside the context of the caller."""
    torch.manual_seed(0)
    given = {"features": 4, "levels": 3, "dropout": 0.0, "out_channels": 2}
    plain, saving = ImprovedUNet(**given), ImprovedUNet(**given, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 8, 16, 16)  # depth 2 at the deepest level
    for network in (plain, saving):
        HalfInferer(True)(x, network).square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=0.02, atol=1e-3 * a.grad.abs().max().item() + 1e-6)
