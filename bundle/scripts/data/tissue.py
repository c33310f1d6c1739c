"""Intensities that mean the same in every patient, where something beside the tissue is bright: the fat of the skull.

Configurations name `NormalizeTissued`.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_data_type, convert_to_dst_type

BRIGHT = 98  # percentile of all voxels that stands for the brightest ones


class NormalizeTissued(MapTransform):
    """Subtracts the median of the tissue from every channel, and divides by the range of the tissue's middle half.

    Mean and standard deviation, of all voxels or of those that are not 0, depend on how bright the brightest ones are
    and on how much air there is. The median and the middle half hardly do.

    Args:
        keys: of the images, channels first.
        share: of the brightest voxels' value, above which a voxel is tissue and not air.
        limits: what is lower or higher after that is cut off.
        allow_missing_keys: whether a key may be missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        share: float = 0.1,
        limits: tuple[float, float] = (-3.0, 6.0),
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        self.share, self.low, self.high = share, *limits

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        found = dict(data)
        for key in self.key_iterator(found):
            channels = convert_data_type(found[key], np.ndarray, dtype=np.float32)[0]
            made = np.stack([self.normalised(channel) for channel in channels])
            found[key] = convert_to_dst_type(made, found[key], dtype=np.float32)[0]
        return found

    def normalised(self, channel: np.ndarray) -> np.ndarray:
        tissue = channel[channel > self.share * np.percentile(channel, BRIGHT)]
        low, middle, high = np.percentile(tissue, (25, 50, 75)) if tissue.size else (0.0, 0.0, 0.0)
        return np.clip((channel - middle) / max(high - low, 1e-6), self.low, self.high)
