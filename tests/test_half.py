"""Half precision: only the network's, only where it is asked for."""

import pytest
import torch
from torch import nn

from monai.inferers import SlidingWindowInferer
from scripts.half import HalfInferer, supported


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 1))


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((8, 8, 8))])
def test_scores_are_near_and_gradients_reach_the_weights(inferer):
    made, x = network(), torch.rand(1, 1, 8, 8, 8)
    whole = HalfInferer(False, inferer)(x, made)
    assert torch.equal(whole, made(x))
    half = HalfInferer(True, inferer)(x, made)
    assert half.dtype == torch.float32 and not torch.equal(half, whole)
    assert torch.allclose(half, whole, atol=0.02)
    half.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in made.parameters())


@pytest.mark.parametrize("flags, expected", [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)])
def test_a_cpu_is_asked_what_it_can(flags, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert supported("cpu") is supported(torch.device("cpu")) is expected


def test_a_torch_that_can_not_tell_does_without(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert supported("cpu") is False
