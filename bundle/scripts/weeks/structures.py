"""One structure of a label map: its volume, its middle, its surface, all in millimetres of space.

Positions are towards the patient's left, back and head, as in DICOM, whatever the order and direction of the file's
axes are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from scripts.data.label_maps import voxel_ml
from scripts.series.stack import TO_RAS
from scripts.weeks.surfaces import RIM, Surface, surface_of

MARGIN = 5  # voxels around a structure, enough for the smoothing
MOST_OUTSIDE = 0.1  # share of the voxels that may be outside the surface


@dataclass(frozen=True)
class Structure:
    """What is measured of a class in one scan.

    Attributes:
        volume_ml: of its voxels.
        centroid: mean position of its voxels.
        voxels: (n, 3), the centres of its voxels.
        surface: without what lies at the border of the scan.
        cut: whether it touches the border of the scan, so that a part of it may be missing.
    """

    volume_ml: float
    centroid: np.ndarray
    voxels: np.ndarray
    surface: Surface
    cut: bool

    @cached_property
    def has_surface(self) -> bool:
        """Whether its surface is that of all of it: where it is thinner than two or three voxels there is none."""
        if not len(self.surface):
            return False
        diagonal = 2 * self.surface.spacing
        return float((self.surface.distances(self.voxels) > diagonal).mean()) <= MOST_OUTSIDE


def find_structures(labels: np.ndarray, affine: np.ndarray, values: Sequence[int]) -> dict[int, Structure]:
    """Finds the structures of some values; a value that the map doesn't have is left out."""
    to_lps = TO_RAS @ affine  # it is its own inverse
    boxes = ndimage.find_objects(labels, max_label=max(values))
    return {value: structure_of(labels, value, boxes[value - 1], to_lps) for value in values if boxes[value - 1]}


def structure_of(labels: np.ndarray, value: int, box: tuple[slice, ...], to_lps: np.ndarray) -> Structure:
    cut = any(part.start <= RIM or part.stop >= size - RIM for part, size in zip(box, labels.shape, strict=True))
    wide = tuple(slice(max(0, part.start - MARGIN), part.stop + MARGIN) for part in box)
    mask = labels[wide] == value
    start = np.array([part.start for part in wide])
    voxels = (np.argwhere(mask) + start) @ to_lps[:3, :3].T + to_lps[:3, 3]
    volume_ml = len(voxels) * voxel_ml(to_lps)
    return Structure(volume_ml, voxels.mean(0), voxels, surface_of(mask, start, labels.shape, to_lps), cut)
