"""Checks whether a predicted label map is plausible when no truth is available.

Volumes, number of pieces and contact with the border are compared with those of the training labels. Training keeps
these figures with the weights; the report of an inference warns where a prediction is outside them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import find_objects, generate_binary_structure, label

from scripts.core.processes import is_main_process
from scripts.data.label_maps import read_labels, voxel_ml

TOUCHING = 0.05  # if at least this share of the training cases touches the border, a prediction may touch it too
MANY = 10  # pieces that are usual at most, if the training data's number isn't known
SPECK_ML = 0.05  # smaller pieces are not counted


def describe_labels(labels: np.ndarray, affine: np.ndarray, class_names: Sequence[str]) -> dict[str, dict]:
    """Measures every class of a label map.

    Returns:
        By class: `ml`, the volume; `pieces`, their number (voxels that share a face, edge or corner are connected;
        pieces below 0.05 ml are not counted); `border`, whether the class touches the border of the volume.
    """
    each = voxel_ml(affine)
    corners = generate_binary_structure(3, 3)
    found = {}
    for value, box in enumerate(find_objects(labels, max_label=len(class_names) - 1), start=1):
        name = class_names[value]
        if box is None:
            found[name] = {"ml": 0.0, "pieces": 0, "border": False}
            continue
        pieces, _ = label(labels[box] == value, corners)
        sizes = np.bincount(pieces.ravel())[1:] * each
        found[name] = {
            "ml": float(sizes.sum()),
            "pieces": int((sizes >= min(SPECK_ML, sizes.max())).sum()),
            "border": any(part.start == 0 or part.stop == size for part, size in zip(box, labels.shape)),
        }
    return found


def training_ranges(cases: Sequence[dict], class_names: Sequence[str], workers: int = 1) -> dict[str, dict]:
    """Measures the ranges of the training labels. They are kept with the weights, so that inference can warn.

    Args:
        cases: with a `label` path each.
        class_names: names of the values 0, 1, ...; the background is left out.
        workers: number of threads that read.

    Returns:
        By class: `ml` [least, most], `pieces` (most), `border` (share of the cases that touch it) and `n`, the number
        of cases that have the class. Only the main process measures; the others return an empty dictionary.
    """
    if not is_main_process():
        return {}

    def read(case: dict) -> dict:
        labels, affine = read_labels(case["label"], class_names)
        return describe_labels(labels, affine, class_names)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = list(pool.map(read, cases))
    known = {}
    for name in class_names[1:]:
        present = [case[name] for case in found if case[name]["ml"] > 0]
        if present:
            volumes = [case["ml"] for case in present]
            known[name] = {
                "ml": [min(volumes), max(volumes)],
                "pieces": max(case["pieces"] for case in present),
                "border": sum(case["border"] for case in present) / len(present),
                "n": len(present),
            }
    return known


def find_doubts(found: dict[str, dict], known: dict[str, dict] | None) -> list[str]:
    """Returns one line for every unusual property of a predicted map that a person should look at.

    Args:
        found: result of `describe_labels` for the predicted map.
        known: result of `training_ranges`; None or empty if the weights have none.
    """
    lines = []
    for name, now in found.items():
        usual = (known or {}).get(name)
        if not now["ml"]:
            lines.append(f"{name}: missing, no voxel found")
            continue
        if now["border"] and (usual is None or usual["border"] < TOUCHING):
            lines.append(f"{name}: touches the border of the volume, it may be cut off")
        most = usual["pieces"] if usual else MANY
        if now["pieces"] > most:
            lines.append(
                f"{name}: {now['pieces']} separate pieces, "
                + (f"at most {most} in the training data" if usual else "more than one would expect")
            )
        if usual and not usual["ml"][0] <= now["ml"] <= usual["ml"][1]:
            low, high = usual["ml"]
            here, least, most = (f"{size:.{1 if size >= 0.05 else 3}f}" for size in (now["ml"], low, high))
            lines.append(f"{name}: {here} ml, {least} to {most} ml in the training data")
    return lines
