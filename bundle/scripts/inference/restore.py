"""Turns the scores of a network into labels on the image's own grid; scores are interpolated only where classes meet.

If eight neighbouring voxels have the same best class, every linear interpolation between them has the same best class.
So their label is used directly, and scores are interpolated only for the other voxels. The result is that of `Invertd`
and an argmax, in a fraction of their time and memory. `fast.json` uses it.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from scripts.core.errors import UserError

MIXED = 255  # stands for a cell whose corners have different classes
CHUNK = 2**18  # voxels that are interpolated at once


class RestoreLabelsd(MapTransform):
    """Turns scores on the network's grid, one channel for each class, into a label map on the original grid.

    Voxels outside the network's grid, for example after a crop, become background.

    Args:
        keys: scores, channels first.
        orig_keys: the image from which they were computed. Its affine is the network's grid, and its metadata have the
            original one.
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
    """Returns the labels (uint8) on the grid of `affine` and `shape`, from scores (classes first) on `grid`."""
    if not 1 < scores.shape[0] < MIXED:
        raise UserError(f"found {scores.shape[0]} map(s) of scores, expected one for each class; run without fast.json")
    order, places = axis_order(torch.linalg.solve(grid, affine), shape)
    scores = scores.permute(0, *(axis + 1 for axis in order)).to("cpu", torch.float32)
    cells = cell_labels(best_class(scores))
    lows, shares, inside = zip(*(neighbours(place, size) for place, size in zip(places, scores.shape[1:])))
    labels = cells
    for axis, low in enumerate(lows):
        labels = labels.index_select(axis, low)
    for axis, known in enumerate(inside):
        if not known.all():
            labels.index_fill_(axis, (~known).nonzero()[:, 0], 0)
    interpolate_mixed(labels, scores.permute(1, 2, 3, 0).contiguous(), lows, shares)
    return labels


def axis_order(matrix: torch.Tensor, shape: list[int]) -> tuple[list[int], list[torch.Tensor]]:
    """Returns the axis of the scores for each axis of the labels, and the positions of the labels' voxels on it."""
    order = [int(column.abs().argmax()) for column in matrix[:3, :3].T]
    rest = matrix[:3, :3].clone()
    rest[order, range(3)] = 0
    if sorted(order) != [0, 1, 2] or rest.abs().max() * max(shape) > 0.01:
        raise UserError("found transforms that rotate images, expected none; run without fast.json")
    places = [matrix[row, axis] * torch.arange(n) + matrix[row, 3] for axis, (row, n) in enumerate(zip(order, shape))]
    return order, places


def best_class(scores: torch.Tensor) -> torch.Tensor:
    """Returns the class of the largest score. Of equal scores it is the first, as for argmax."""
    best, labels = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.uint8)
    for value in range(1, scores.shape[0]):
        labels.masked_fill_(scores[value] > best, value)
        torch.maximum(best, scores[value], out=best)
    return labels


def cell_labels(labels: torch.Tensor) -> torch.Tensor:
    """Returns the common label of the eight corners of every cell, or MIXED. There is one cell less along each axis."""
    low, high = labels, labels
    for axis, size in enumerate(labels.shape):
        if size > 1:
            low, high = (
                pick(values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1))
                for pick, values in ((torch.minimum, low), (torch.maximum, high))
            )
    return torch.where(low == high, low, MIXED)


def neighbours(places: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns for each position the voxel below, the weight of the voxel above, and whether it is inside the grid."""
    inside = (places > -0.501) & (places < size - 0.499)
    places = places.clamp(0, size - 1)
    low = places.floor().clamp(max=max(size - 2, 0)).long()
    return low, (places - low).float(), inside


def interpolate_mixed(labels: torch.Tensor, scores: torch.Tensor, lows: tuple, shares: tuple) -> None:
    """Fills in the voxels that are MIXED, with the best class of the interpolated scores (classes last)."""
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
        labels[tuple(found.T)] = best_class(total.T)
