"""Several looks at an image: each is turned back onto the image, whatever was done to it before."""

import pytest
import torch
from helpers import refusal
from monai.inferers import SimpleInferer
from torch import nn

from scripts.doubt.looks import Looks, probabilities, shifted
from scripts.inference.ensemble import Ensemble


class Pointwise(nn.Module):
    """Scores that depend on the voxel alone, so that no shift and no mirror image changes them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), x], 1)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))


def inner(x: torch.Tensor, rim: int = 2) -> torch.Tensor:
    for axis in range(1, x.ndim):
        x = x.narrow(axis, rim, x.shape[axis] - 2 * rim)
    return x


@pytest.mark.parametrize("source, mirror_axes, count", [
    ("auto", [], 4), ("auto", [0], 4), ("shifts", [0, 1], 4), ("mirrors", [0, 2], 3),
])  # fmt: skip
def test_a_look_is_turned_back(source, mirror_axes, count):
    given = image(9, 8, 7)
    looks = list(Looks(SimpleInferer(), source, mirror_axes)(given, Pointwise()))
    plain = probabilities(Pointwise()(given)[0])
    assert len(looks) == count
    for look in looks:
        assert look.shape == plain.shape and torch.equal(inner(look), inner(plain))


def test_looks_differ_where_a_network_sees_more_than_a_voxel():
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 3, padding=1, stride=1)
    pooled = nn.Sequential(nn.AvgPool3d(2), nn.Upsample(scale_factor=2), network)
    looks = list(Looks(SimpleInferer(), mirror_axes=[0])(image(8, 8, 8), pooled))
    assert all(not torch.allclose(looks[0], look) for look in looks[1:])


def test_slices_move_within_their_plane_only():
    """The network goes by slices: along the third axis a shift would change nothing."""
    assert {move for move, _ in Looks(SimpleInferer(), axes=2).views("shifts")} == {(2, 2), (2, -2), (-2, 2), (-2, -2)}
    given = image(8, 8, 3)
    for look in Looks(SimpleInferer(), axes=2)(given, Pointwise()):
        assert torch.equal(look[:, 2:-2, 2:-2], probabilities(Pointwise()(given)[0])[:, 2:-2, 2:-2])


def test_of_an_ensemble_every_member_is_a_look():
    members = [nn.Conv3d(1, 2, 1) for _ in range(3)]
    given = image(4, 4, 4)
    looks = list(Looks(SimpleInferer())(given, Ensemble(members)))
    assert [torch.equal(look, member(given)[0].softmax(0)) for look, member in zip(looks, members)] == [True] * 3


def test_dropout_draws_the_same_for_every_image_and_leaves_other_random_numbers_alone():
    network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.Dropout3d(0.5), nn.Conv3d(8, 2, 1)).eval()
    looks = Looks(SimpleInferer(), "dropout", count=4)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with torch.no_grad():
        first, again = (torch.stack(list(looks(image(4, 4, 4), network))) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first[0], first[1])
    assert torch.equal(torch.rand(1), expected) and not any(layer.training for layer in network.modules())


@pytest.mark.parametrize("source, said", [
    ("members", "the weights are of one network"),
    ("mirrors", "mirror_axes is empty"),
    ("dropout", "the network has no dropout"),
])  # fmt: skip
def test_looks_that_cannot_be_taken_are_refused(source, said):
    message = refusal(Looks(SimpleInferer(), source).check, nn.Sequential(nn.Conv3d(1, 2, 1), nn.Dropout3d(0.0)))
    assert said in message and "--doubt_from auto" in message


def test_what_comes_in_at_the_rim_repeats_it():
    line = torch.arange(5.0)[None, None]
    assert shifted(line, [2]).tolist() == [[[0, 0, 0, 1, 2]]] and shifted(line, [-1]).tolist() == [[[1, 2, 3, 4, 4]]]


def test_a_single_map_of_scores_is_that_of_class_1():
    found = probabilities(torch.tensor([[-100.0, 0, 100]]))
    assert found.tolist() == [[1, 0.5, 0], [0, 0.5, 1]]
