"""Whether an image is of the kind that a network was trained on: the fingerprint of its training images.

Five facts are compared: the size of the voxels and of the field of view, how the intensities are spread, what the image
shows at large (a picture of a few voxels), and the features of the network's lowest level. The last one is known once
the network has run; the others before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from nibabel.orientations import io_orientation
from torch.nn import functional as F

from scripts.doubt.model import parts_of

AXES = "RAS"
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of the intensities
SIDE = 6  # voxels of the coarse picture along each axis
MOST_DIRECTIONS = 8
BEYOND = 1.15  # times the largest distance of a training image that a model without it has
WIDER = 1.25  # times the sizes that the training data have
FEWEST = 10  # images
DEPTH = "depth"
PATIENT = "patient"  # a digest of it
SAID = {  # what is unlike, where a distance says so
    "intensities": "its intensities are spread in another way than in the training data, as in another kind of scan",
    "picture": "what it shows at large is unlike the training data, as of another part of the body or turned",
    DEPTH: "the network finds features in it that the training data do not have",
}


@dataclass(frozen=True)
class Cloud:
    """Where the training images lie, as rows of numbers, and how far from there an image may be.

    Attributes:
        mean: of the rows.
        directions: in which they differ most.
        sizes: standard deviation along each.
        rest: that of a number in all other directions.
        limit: largest distance of an image of the kind.
    """

    mean: list[float]
    directions: list[list[float]]
    sizes: list[float]
    rest: float
    limit: float

    def share(self, row: Sequence[float]) -> float:
        """The distance of a row as a share of the limit; infinite where it has other numbers, as of other channels."""
        if len(row) != len(self.mean):
            return math.inf
        mean, directions, sizes = (np.asarray(numbers) for numbers in (self.mean, self.directions, self.sizes))
        return distance(np.asarray(row), mean, directions, sizes, self.rest) / self.limit


@dataclass(frozen=True)
class Span:
    """The smallest and the largest size in mm along each axis."""

    low: list[float]
    high: list[float]

    def unlike(self, sizes: Sequence[float], what: str) -> tuple[float, str]:
        """How far outside sizes are, as a share of what may be, and that in words."""
        low, high = np.asarray(self.low) / WIDER, np.asarray(self.high) * WIDER
        outside = np.log(np.maximum(np.asarray(sizes) / high, low / np.asarray(sizes)))
        axis = int(np.argmax(outside))
        text = f"its {what} is {sizes[axis]:.3g} mm along {AXES[axis]}, "
        text += f"{self.low[axis]:.3g} to {self.high[axis]:.3g} mm in the training data"
        return 1 + float(outside[axis]) / math.log(WIDER), text


@dataclass(frozen=True)
class Fingerprint:
    """What the training images have in common.

    Attributes:
        images: their number.
        voxels: sizes of the voxels.
        field: sizes of the field of view.
        clouds: of `intensities`, `picture` and `depth`.
    """

    images: int
    voxels: Span
    field: Span
    clouds: dict[str, Cloud]

    def unlike(self, facts: Mapping[str, Sequence[float]]) -> str:
        """In words the fact of an image that is most unlike the training images; "" where none is.

        Args:
            facts: of `facts_of`, with or without those of the network.
        """
        found = [self.voxels.unlike(facts["voxels"], "voxel size"), self.field.unlike(facts["field"], "field of view")]
        found += [(cloud.share(facts[name]), SAID[name]) for name, cloud in self.clouds.items() if name in facts]
        share, text = max(found)
        return text if share > 1 else ""

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping) -> "Fingerprint":
        clouds = {name: Cloud(**cloud) for name, cloud in content["clouds"].items()}
        return cls(content["images"], Span(**content["voxels"]), Span(**content["field"]), clouds)


def facts_of(image: MetaTensor, depth: torch.Tensor | None = None) -> dict[str, list[float]]:
    """The facts of an image as the network is given it, channels first.

    Args:
        image: with the metadata of the file.
        depth: features of the network's lowest level, if it has run.
    """
    affine = np.asarray(image.meta.get("original_affine", image.affine), float)
    shape = np.asarray(image.meta["spatial_shape"])[:3]
    order = io_orientation(affine)[:, 0].astype(int)
    sizes = np.empty((2, 3))
    sizes[:, order] = voxel_sizes(affine), voxel_sizes(affine) * shape
    plain = image.as_tensor().float().cpu()
    values = plain.flatten(1)
    step = max(1, values.shape[1] // 100_000)
    levels = np.quantile(values[:, ::step].numpy(), SHARES, axis=1).flatten()
    coarse = F.adaptive_avg_pool3d(plain[None], SIDE)[0]
    coarse = coarse - coarse.mean()
    picture = coarse.flatten() / coarse.norm().clamp(min=1e-9)  # 0 where every voxel is alike
    facts = {"voxels": sizes[0], "field": sizes[1], "intensities": levels, "picture": picture}
    return {name: numbers(row) for name, row in facts.items()} | depth_of(depth)


def depth_of(features: torch.Tensor | None) -> dict[str, list[float]]:
    """The fact that is known once the network has run; nothing where it has not."""
    return {} if features is None else {DEPTH: numbers(features.cpu())}


def numbers(row: np.ndarray | torch.Tensor) -> list[float]:
    return np.asarray(row, float).round(4).tolist()


def fingerprint_of(images: Sequence[Mapping[str, Sequence[float]]]) -> Fingerprint | None:
    """The fingerprint of training images, from the facts of each; None where they are too few, or of one patient."""
    parts = parts_of([str(image.get(PATIENT, number)) for number, image in enumerate(images)])
    if len(images) < FEWEST or len(images) - np.bincount(parts).max() < 2:  # the others have to be two or more
        return None
    tables = {name: np.array([image[name] for image in images]) for name in images[0] if name != PATIENT}
    voxels, field = (Span(tables[name].min(0).tolist(), tables[name].max(0).tolist()) for name in ("voxels", "field"))
    clouds = {name: cloud_of(table, parts) for name, table in tables.items() if name in SAID}
    return Fingerprint(len(images), voxels, field, clouds)


def cloud_of(rows: np.ndarray, parts: np.ndarray) -> Cloud:
    """Where rows lie. The limit follows from the rows that a part of the fits has not seen.

    Args:
        rows: of one fact, a row for each image.
        parts: the part of each image; those of a patient are in the same part.
    """
    seen = [(fit(rows[parts != number]), rows[parts == number]) for number in np.unique(parts)]
    errors = [residual(row, *found) for found, own in seen for row in own]
    rest = max(float(np.sqrt(np.mean(np.square(errors)))), 1e-4)
    limit = max(distance(row, *found, rest) for found, own in seen for row in own)
    mean, directions, sizes = (array.round(5).tolist() for array in fit(rows))
    return Cloud(mean, directions, sizes, rest, BEYOND * limit)


def fit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, main directions and the standard deviation along each."""
    mean = rows.mean(0)
    _, values, directions = np.linalg.svd(rows - mean, full_matrices=False)
    count = max(1, min(MOST_DIRECTIONS, len(rows) // 5))
    return mean, directions[:count], values[:count] / math.sqrt(len(rows) - 1)


def residual(row: np.ndarray, mean: np.ndarray, directions: np.ndarray, _: np.ndarray) -> float:
    """What of a row lies in no main direction, as the root of the mean square of its numbers."""
    apart = row - mean
    return float(np.linalg.norm(apart - apart @ directions.T @ directions)) / math.sqrt(len(row))


def distance(row: np.ndarray, mean: np.ndarray, directions: np.ndarray, sizes: np.ndarray, rest: float) -> float:
    """How far a row is from the others: along each main direction, and in all others together."""
    along = (row - mean) @ directions.T / np.maximum(sizes, rest)
    return math.sqrt(
        float(np.sum(along**2)) / max(1, len(sizes)) + (residual(row, mean, directions, sizes) / rest) ** 2
    )
