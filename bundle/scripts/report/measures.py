"""The measures of the report: how well a predicted label map agrees with the truth, class by class.

To add a measure to the report, change only this file:

1. Write a function that takes a `ClassPair` (one class of one case) and returns a number.
2. Add a `Measure` to the dictionary `MEASURES` below: its name, its title in the tables, its number of decimals,
   whether more or less is better, which of the two masks it needs, and the function.

The measure is then computed for every case. It is a row in `metrics.csv`, a key in `metrics.json`, a part of the
table of measures in `report.html` and `report.md`. Where more or less of it is better, comparisons of runs have it too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from monai.metrics.utils import get_mask_edges, get_surface_distance
from scipy.ndimage import find_objects

NAN = float("nan")
COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")  # voxel counts, with nnU-Net's names

RULES = (
    "Every measure is taken on the image's own grid. Distances are in mm, between the surface voxels of the two masks. "
    "The surface Dice counts the area of the surfaces between the voxels.",
    "Absent: the class is neither in the truth nor in the prediction. The case does not count for that class.",
    "Missed: the class is in the truth and nothing was predicted. Dice, IoU, sensitivity and surface Dice are 0 and "
    "count. Precision and distances are not defined, so every mean is shown together with the number of missed "
    "structures.",
    "False alarm: the class was predicted and is not in the truth. No measure is defined. The number of false alarms "
    "and their volume are reported.",
)


@dataclass(frozen=True)
class ClassPair:
    """One class of one case: what a measure is computed from.

    Attributes:
        truth: mask of the true voxels, cropped to the box that holds both masks.
        prediction: mask of the predicted voxels, cropped to the same box.
        spacing: voxel size along each axis in mm.
        voxel_ml: volume of a voxel in millilitres.
        tolerance_mm: surfaces that are no further apart agree, for the surface Dice.
        counts: voxels of the whole volume by nnU-Net's names: TP, FP, FN, TN, n_pred (predicted), n_ref (true).
    """

    truth: np.ndarray
    prediction: np.ndarray
    spacing: tuple[float, ...]
    voxel_ml: float
    tolerance_mm: float
    counts: dict[str, int]

    @property
    def status(self) -> str:
        """`scored`, `missed` (not predicted), `false alarm` (not in the truth) or `absent` (in neither)."""
        in_truth, predicted = self.counts["n_ref"] > 0, self.counts["n_pred"] > 0
        return {(True, True): "scored", (True, False): "missed", (False, True): "false alarm"}.get(
            (in_truth, predicted), "absent"
        )

    @cached_property
    def padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction and truth with an empty border, because a mask also has a surface where the volume ends."""
        return torch.from_numpy(np.pad(self.prediction, 1)), torch.from_numpy(np.pad(self.truth, 1))

    @cached_property
    def distances(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances in mm from each surface voxel of one mask to the nearest surface voxel of the other.

        First from the prediction to the truth, then from the truth to the prediction.

        MONAI's metrics would each crop the volume and search anew. Here the masks are cropped already, and the measures
        share one search.
        """
        predicted_edges, true_edges = get_mask_edges(*self.padded, crop=False)
        return distances_between(predicted_edges, true_edges, self.spacing)


@dataclass(frozen=True)
class Measure:
    """One measure and what the report needs to know about it.

    Attributes:
        name: in `metrics.csv` and `metrics.json`.
        title: in the tables of the page, with the unit; `{tolerance_mm}` in it is replaced by the tolerance.
        compute: gives the number for one class of one case.
        decimals: number of decimals in the tables.
        better: "more", "less", "zero" (values near 0 are good) or "neither" (a size, which is not a score).
        needs: "both" masks, the "truth" or "nothing"; the measure is not defined (NaN) where a needed mask is empty.
    """

    name: str
    title: str
    compute: Callable[[ClassPair], float]
    decimals: int = 3
    better: str = "more"
    needs: str = "both"

    def of(self, pair: ClassPair) -> float:
        needed = {"both": ("scored",), "truth": ("scored", "missed"), "nothing": (pair.status,)}[self.needs]
        return float(self.compute(pair)) if pair.status in needed else NAN


def dice(pair: ClassPair) -> float:
    return 2 * pair.counts["TP"] / (pair.counts["n_ref"] + pair.counts["n_pred"])


def iou(pair: ClassPair) -> float:
    return pair.counts["TP"] / (pair.counts["TP"] + pair.counts["FP"] + pair.counts["FN"])


def sensitivity(pair: ClassPair) -> float:
    return pair.counts["TP"] / pair.counts["n_ref"]


def precision(pair: ClassPair) -> float:
    return pair.counts["TP"] / pair.counts["n_pred"]


def hd95_mm(pair: ClassPair) -> float:
    """The 95th percentile of the distances in each direction, of which the larger one counts, as in MONAI."""
    return max(float(np.percentile(part.numpy(), 95)) for part in pair.distances)


def mean_surface_distance_mm(pair: ClassPair) -> float:
    return float(torch.cat(pair.distances).double().mean())


def surface_dice(pair: ClassPair) -> float:
    """The share of both surfaces that is within the tolerance, as MONAI's `compute_surface_dice` with subvoxels.

    The surfaces run between the voxels and count by their area, as the authors of the measure defined it. Counting
    surface voxels instead gave values that are 0.1 lower at a tolerance of about one voxel.
    """
    if not pair.counts["n_pred"]:
        return 0.0
    predicted_edges, true_edges, predicted_area, true_area = get_mask_edges(
        *pair.padded, crop=False, spacing=pair.spacing
    )
    areas = predicted_area[predicted_edges], true_area[true_edges]
    distances = distances_between(predicted_edges, true_edges, pair.spacing)
    within = sum(area[distance <= pair.tolerance_mm].sum() for area, distance in zip(areas, distances))
    return float(within / sum(area.sum() for area in areas))


def truth_ml(pair: ClassPair) -> float:
    return pair.counts["n_ref"] * pair.voxel_ml


def predicted_ml(pair: ClassPair) -> float:
    return pair.counts["n_pred"] * pair.voxel_ml


def difference_ml(pair: ClassPair) -> float:
    return predicted_ml(pair) - truth_ml(pair)


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("Dice", "Dice", dice, needs="truth"),
        Measure("IoU", "IoU", iou, needs="truth"),
        Measure("sensitivity", "Sensitivity", sensitivity, needs="truth"),
        Measure("precision", "Precision", precision),
        Measure("hd95_mm", "95 % Hausdorff distance (mm)", hd95_mm, 2, "less"),
        Measure("mean_surface_distance_mm", "Mean surface distance (mm)", mean_surface_distance_mm, 2, "less"),
        Measure("surface_dice", "Surface Dice at {tolerance_mm} mm", surface_dice, needs="truth"),
        Measure("truth_ml", "Truth volume (ml)", truth_ml, 1, "neither", "nothing"),
        Measure("predicted_ml", "Predicted volume (ml)", predicted_ml, 1, "neither", "nothing"),
        Measure("difference_ml", "Predicted minus true volume (ml)", difference_ml, 1, "zero", "nothing"),
    )
}


def measure_classes(
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: Sequence[float],
    class_names: Sequence[str],
    tolerance_mm: float = 2.0,
    voxel_ml: float | None = None,
) -> dict[str, dict]:
    """All measures of every foreground class.

    Args:
        truth: label map of whole numbers from 0 to len(class_names) - 1.
        prediction: likewise, on the same grid.
        spacing: voxel size along each axis in mm.
        class_names: names of the values 0, 1, ...; the background is left out.
        tolerance_mm: surfaces that are no further apart agree, for the surface Dice.
        voxel_ml: volume of a voxel, where its edges are not at right angles.

    Returns:
        By class: `status` (see `ClassPair.status`), the measures (NaN where not defined) and the voxel counts.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth of shape {truth.shape}, prediction of shape {prediction.shape}: expected one shape")
    count = len(class_names)
    if max(truth.max(initial=0), prediction.max(initial=0)) >= count:
        raise ValueError(f"a label above {count - 1}, the last class ({class_names[-1]})")
    pairs = truth.astype(np.uint16).ravel() * np.uint16(count) + prediction.astype(np.uint16).ravel()
    table = np.bincount(pairs, minlength=count * count).reshape(count, count)  # by true and by predicted value
    spacing = tuple(map(float, spacing))
    voxel_ml = float(np.prod(spacing)) / 1000 if voxel_ml is None else voxel_ml
    if truth.shape.count(1) == 1:  # a single slice has an outline; as a volume it would be nothing but surface
        flat = truth.shape.index(1)
        truth, prediction = truth.squeeze(flat), prediction.squeeze(flat)
        spacing = spacing[:flat] + spacing[flat + 1 :]
    boxes = [find_objects(labels, max_label=count - 1) for labels in (truth, prediction)]
    found = {}
    for value, name in enumerate(class_names[1:], start=1):
        box = enclosing_box([boxes_of_one[value - 1] for boxes_of_one in boxes], truth.ndim)
        masks = truth[box] == value, prediction[box] == value
        pair = ClassPair(*masks, spacing, voxel_ml, float(tolerance_mm), count_voxels(table, value))
        numbers = {measure.name: measure.of(pair) for measure in MEASURES.values()}
        found[name] = {"status": pair.status, **numbers, **pair.counts}
    return found


def count_voxels(table: np.ndarray, value: int) -> dict[str, int]:
    """nnU-Net's counts of one class, from the voxels by true value (rows) and predicted value (columns)."""
    both, true, predicted = (int(n) for n in (table[value, value], table[value].sum(), table[:, value].sum()))
    neither = int(table.sum()) - predicted - true + both
    return dict(zip(COUNTS, (both, predicted - both, true - both, neither, predicted, true)))


def enclosing_box(boxes: Sequence[tuple[slice, ...] | None], axes: int) -> tuple[slice, ...]:
    """The smallest box that holds all boxes that are there; an empty one where there is none."""
    known = [box for box in boxes if box is not None]
    if not known:
        return (slice(0, 0),) * axes
    return tuple(slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in zip(*known))


def distances_between(first: torch.Tensor, second: torch.Tensor, spacing: tuple[float, ...]) -> tuple:
    """Distances in mm from each edge voxel of the first to the nearest of the second, and the other way round."""
    return get_surface_distance(first, second, spacing=spacing), get_surface_distance(second, first, spacing=spacing)
