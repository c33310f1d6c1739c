"""From the scores of a network to the labels of the image's own grid, interpolating only where classes meet.

Between eight voxels that agree on the largest score, every linear mixture agrees with them as well. So their label is
taken as it is, and scores are mixed for the rest alone: the labels that `Invertd` and an argmax give, in a fraction of
their time and memory.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from scripts.core.errors import UserError

MIXED = 255  # no class has this number
CHUNK = 2**18  # voxels at once


class RestoreLabelsd(MapTransform):
    """Turns the scores of a class each, on the network's grid, into one label map on the grid that was read.

    What lies beyond the network's grid, as after a crop, becomes background.

    Args:
        keys: scores, channels first.
        orig_keys: the image they were made from: its affine is the network's grid, its metadata tell the other.
    """

    def __init__(self, keys: KeysCollection, orig_keys: str):
        super().__init__(keys)
        self.original = orig_keys

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        result = dict(data)
        image = result[self.original]
        shape = [int(n) for n in image.meta["spatial_shape"][:3]]
        affine = torch.as_tensor(np.asarray(image.meta["original_affine"]), dtype=torch.float64)
        for key in self.key_iterator(result):
            scores = result[key].as_tensor() if isinstance(result[key], MetaTensor) else result[key]
            labels = restore(scores, image.affine.to(torch.float64).cpu(), affine, shape)
            result[key] = MetaTensor(labels[None], meta={**image.meta, "affine": affine})
        return result


def restore(scores: torch.Tensor, grid: torch.Tensor, affine: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Labels of type uint8 on a grid of a shape and an affine, of scores (classes first) on another grid."""
    if not 1 < scores.shape[0] < MIXED:
        raise UserError(f"found {scores.shape[0]} map(s) of scores, expected one for each class; leave fast.json out")
    order, places = axes(torch.linalg.solve(grid, affine), shape)
    scores = scores.permute(0, *(axis + 1 for axis in order)).to("cpu", torch.float32)
    cells = agreed(largest(scores))
    lows, shares, inside = zip(*(neighbours(place, size) for place, size in zip(places, scores.shape[1:])))
    labels = cells
    for axis, low in enumerate(lows):
        labels = labels.index_select(axis, low)
    for axis, known in enumerate(inside):
        if not known.all():
            labels.index_fill_(axis, (~known).nonzero()[:, 0], 0)
    mix(labels, scores.permute(1, 2, 3, 0).contiguous(), lows, shares)
    return labels


def axes(matrix: torch.Tensor, shape: list[int]) -> tuple[list[int], list[torch.Tensor]]:
    """Which axis of the scores belongs to each of the labels', and where along it the labels' voxels lie."""
    order = [int(column.abs().argmax()) for column in matrix[:3, :3].T]
    rest = matrix[:3, :3].clone()
    rest[order, range(3)] = 0
    if sorted(order) != [0, 1, 2] or rest.abs().max() * max(shape) > 0.01:
        raise UserError("the chain turns images between voxels; leave fast.json out")
    places = [matrix[row, axis] * torch.arange(n) + matrix[row, 3] for axis, (row, n) in enumerate(zip(order, shape))]
    return order, places


def largest(scores: torch.Tensor) -> torch.Tensor:
    """The class of the largest score; the first of equals, as argmax has it."""
    best, labels = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.uint8)
    for value in range(1, scores.shape[0]):
        labels.masked_fill_(scores[value] > best, value)
        torch.maximum(best, scores[value], out=best)
    return labels


def agreed(labels: torch.Tensor) -> torch.Tensor:
    """For every cell between voxels the label of all eight corners, or MIXED; one cell less along each axis."""
    low, high = labels, labels
    for axis, size in enumerate(labels.shape):
        if size > 1:
            low, high = (
                pick(values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1))
                for pick, values in ((torch.minimum, low), (torch.maximum, high))
            )
    return torch.where(low == high, low, MIXED)


def neighbours(places: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each place the voxel below, the share of the one above, and whether the place is within the grid at all."""
    inside = (places > -0.501) & (places < size - 0.499)
    places = places.clamp(0, size - 1)
    low = places.floor().clamp(max=max(size - 2, 0)).long()
    return low, (places - low).float(), inside


def mix(labels: torch.Tensor, scores: torch.Tensor, lows: tuple, shares: tuple) -> None:
    """Fills in the voxels that are MIXED: the largest of their eight neighbours' weighted scores, classes last."""
    sizes = scores.shape[:3]
    rows = scores.reshape(-1, scores.shape[3])
    for found in (labels == MIXED).nonzero().split(CHUNK):
        at = [low[index] for low, index in zip(lows, found.T)]
        share = [part[index] for part, index in zip(shares, found.T)]
        total = torch.zeros(len(found), rows.shape[1])
        for corner in range(8):
            steps = [corner >> axis & 1 for axis in range(3)]
            x, y, z = ((a + step).clamp_(max=size - 1) for a, step, size in zip(at, steps, sizes))
            weight = torch.ones(len(found))
            for part, step in zip(share, steps):
                weight = weight * (part if step else 1 - part)
            total.addcmul_(rows[(x * sizes[1] + y) * sizes[2] + z], weight[:, None])
        labels[tuple(found.T)] = largest(total.T)
