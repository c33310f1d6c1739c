"""How well a predicted label map agrees with the truth: every measure of every class of one case."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_surface_dice
from monai.metrics.utils import get_edge_surface_distance
from scipy.ndimage import find_objects

OVERLAP = ("Dice", "IoU", "sensitivity", "precision")
SURFACE = ("hd95_mm", "mean_surface_distance_mm", "surface_dice")
VOLUME = ("truth_ml", "predicted_ml", "difference_ml")
MEASURES = OVERLAP + SURFACE + VOLUME
NAN = float("nan")

# MONAI gives its own function an argument that it warns about
warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)

RULES = (
    "Every measure is taken on the image's own grid. Distances are in mm, between the voxels on the two surfaces; the "
    "surface Dice weighs the surfaces between voxels by their area.",
    "Absent: the class is neither in the truth nor in the prediction. The case does not count for that class.",
    "Missed: the class is in the truth and nothing was predicted. Dice, IoU and sensitivity are 0 and count; precision "
    "and distances are not defined, so the number missed stands beside every mean.",
    "False alarm: something was predicted and the class is not in the truth. No measure is defined; the number of "
    "false alarms and their volume are reported.",
)


def measure(
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
        tolerance_mm: surfaces nearer than this agree, for the surface Dice.
        voxel_ml: volume of a voxel, where its edges are not at right angles.

    Returns:
        By class: `status` (scored, missed, false alarm or absent), the measures (NaN where not defined) and the
        voxel counts that nnU-Net calls TP, FP, FN, TN, n_pred and n_ref.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth of shape {truth.shape}, prediction of shape {prediction.shape}: expected one shape")
    count = len(class_names)
    if max(truth.max(initial=0), prediction.max(initial=0)) >= count:
        raise ValueError(f"a label above {count - 1}, the last class ({class_names[-1]})")
    pairs = truth.astype(np.uint16).ravel() * np.uint16(count) + prediction.astype(np.uint16).ravel()
    table = np.bincount(pairs, minlength=count * count).reshape(count, count)
    voxel_ml = float(np.prod(spacing)) / 1000 if voxel_ml is None else voxel_ml
    boxes = [find_objects(labels, max_label=count - 1) for labels in (truth, prediction)]
    found = {}
    for value, name in enumerate(class_names[1:], start=1):
        found[name] = overlap(table, value)
        found[name] |= dict.fromkeys(SURFACE, NAN)
        if found[name]["status"] == "scored":
            box = union(*(boxes_of_one[value - 1] for boxes_of_one in boxes))
            found[name] |= surface(truth[box] == value, prediction[box] == value, spacing, tolerance_mm)
        truth_ml, predicted_ml = (found[name][key] * voxel_ml for key in ("n_ref", "n_pred"))
        found[name] |= {"truth_ml": truth_ml, "predicted_ml": predicted_ml, "difference_ml": predicted_ml - truth_ml}
    return found


def overlap(table: np.ndarray, value: int) -> dict:
    """Counts and overlap of one class.

    Args:
        table: voxels by true value (rows) and predicted value (columns).
        value: of the class.
    """
    hit = int(table[value, value])
    in_truth, predicted = int(table[value].sum()), int(table[:, value].sum())
    counts = {"TP": hit, "FP": predicted - hit, "FN": in_truth - hit}
    counts |= {"TN": int(table.sum()) - predicted - in_truth + hit, "n_pred": predicted, "n_ref": in_truth}
    if not in_truth:
        return {"status": "false alarm" if predicted else "absent", **dict.fromkeys(OVERLAP, NAN), **counts}
    return {
        "status": "scored" if predicted else "missed",
        "Dice": 2 * hit / (in_truth + predicted),
        "IoU": hit / (in_truth + predicted - hit),
        "sensitivity": hit / in_truth,
        "precision": hit / predicted if predicted else NAN,
        **counts,
    }


def union(first: tuple[slice, ...], second: tuple[slice, ...]) -> tuple[slice, ...]:
    """The smallest box that holds both."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second))


def surface_distances(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> tuple:
    """From every surface voxel of each mask to the nearest of the other, in mm: prediction to truth, truth to it."""
    masks = torch.from_numpy(prediction), torch.from_numpy(truth)
    _, distances, _ = get_edge_surface_distance(*masks, spacing=list(map(float, spacing)), symmetric=True)
    return tuple(part.numpy() for part in distances)


def surface(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], tolerance_mm: float) -> dict:
    """Measures of two masks that are not empty.

    The distances are `monai.metrics`' Hausdorff and average surface distance, which share one search for neighbours
    here. The surface Dice weighs surfaces between voxels by their area, as its authors defined it: counting voxels
    instead, at a tolerance of about a voxel, gave 0.1 less.
    """
    distances = surface_distances(truth, prediction, spacing)
    masks = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    dice = compute_surface_dice(
        *masks,
        class_thresholds=[float(tolerance_mm)],
        include_background=True,
        spacing=list(map(float, spacing)),
        use_subvoxels=True,
    )
    return {
        "hd95_mm": max(float(np.percentile(part, 95)) for part in distances),
        "mean_surface_distance_mm": float(np.concatenate(distances).mean(dtype=np.float64)),
        "surface_dice": float(dice),
    }
