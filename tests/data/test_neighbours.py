"""Slices with their neighbours as channels."""

import pytest
import torch
from monai.data import MetaTensor

from scripts.data.neighbours import StackNeighboursd


@pytest.mark.parametrize("reach", [1, 2])
def test_the_channels_are_the_slices_beside(reach):
    volume = torch.arange(4.0).expand(2, 3, 5, 4) + torch.tensor([0.0, 10.0])[:, None, None, None]
    made = StackNeighboursd("image", reach)({"image": MetaTensor(volume)})["image"]
    assert made.shape == (2 * (2 * reach + 1), 3, 5, 4)
    for number in range(4):
        beside = [min(3, max(0, number + step)) for step in range(-reach, reach + 1)]
        expected = [value + channel for value in beside for channel in (0, 10)]
        assert made[:, 0, 0, number].tolist() == expected


def test_the_place_of_the_volume_and_other_keys_stay():
    affine = torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0]))
    case = {"image": MetaTensor(torch.randn(1, 4, 4, 3), affine=affine), "label": torch.ones(1, 4, 4, 3)}
    made = StackNeighboursd(["image", "other"], allow_missing_keys=True)(case)
    assert torch.equal(made["image"].affine, affine.double())
    assert made["label"] is case["label"]
    assert case["image"].shape == (1, 4, 4, 3), "the volume that was given stays as it was"


def test_a_single_slice_is_its_own_neighbour():
    image = torch.randn(3, 4, 4, 1)
    made = StackNeighboursd("image")({"image": image})["image"]
    assert torch.equal(made.as_tensor(), torch.cat([image] * 3))
