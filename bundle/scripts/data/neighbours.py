"""A little of the third dimension for networks of two: the slices before and after a slice, as channels.

Configurations name `StackNeighboursd`.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor


class StackNeighboursd(MapTransform):
    """Gives every slice of a volume the slices beside it as further channels.

    The channels of the slice before come first, then those of the slice itself, then those of the slice after it. The
    first and the last slice of a volume, which have a neighbour on one side only, are their own on the other side.

    Args:
        keys: of the volumes, channels first, with the slices along the last axis.
        reach: how many slices on each side.
        allow_missing_keys: whether a key may be missing.
    """

    def __init__(self, keys: KeysCollection, reach: int = 1, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.reach = reach

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        found = dict(data)
        for key in self.key_iterator(found):
            volume = convert_to_tensor(found[key], track_meta=True)
            last = volume.shape[-1] - 1
            steps = range(-self.reach, self.reach + 1)
            found[key] = torch.cat([volume[..., (torch.arange(last + 1) + step).clamp(0, last)] for step in steps])
        return found
