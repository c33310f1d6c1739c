"""What can be said of a label map when no truth is at hand: volumes, pieces, the border; and what training data had."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import find_objects, generate_binary_structure, label

from scripts.core.processes import is_main_process
from scripts.data.label_maps import read_labels

TOUCHING = 0.05  # share of the training cases from which on touching the border is nothing special
MANY = 10  # pieces, where the training data's number isn't known
SPECK_ML = 0.05  # pieces smaller than this are not counted


def describe_labels(labels: np.ndarray, affine: np.ndarray, class_names: Sequence[str]) -> dict[str, dict]:
    """By class: `ml`, `pieces` (connected by face, edge or corner; no specks) and `border` (touches the volume's)."""
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    corners = generate_binary_structure(3, 3)
    found = {}
    for value, box in enumerate(find_objects(labels, max_label=len(class_names) - 1), start=1):
        name = class_names[value]
        if box is None:
            found[name] = {"ml": 0.0, "pieces": 0, "border": False}
            continue
        pieces, _ = label(labels[box] == value, corners)
        sizes = np.bincount(pieces.ravel())[1:] * voxel_ml
        found[name] = {
            "ml": float(sizes.sum()),
            "pieces": int((sizes >= min(SPECK_ML, sizes.max())).sum()),
            "border": any(part.start == 0 or part.stop == size for part, size in zip(box, labels.shape)),
        }
    return found


def training_ranges(cases: Sequence[dict], class_names: Sequence[str], workers: int = 1) -> dict[str, dict]:
    """What the labels of the training data span; kept with the model, so that inference can say what is unusual.

    Args:
        cases: with a `label` path each.
        class_names: names of the values 0, 1, ...; the background is left out.
        workers: threads that read.

    Returns:
        By class: `ml` [least, most], `pieces` (most), `border` (share of the cases that touch it) and `n`, the number
        of cases that have the class. Empty in all but the main process.
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
    """One sentence for everything that a person should look at.

    Args:
        found: what `describe` says of a predicted map.
        known: what `ranges` said of the training data; None or empty where the weights carry none.
    """
    lines = []
    for name, now in found.items():
        usual = (known or {}).get(name)
        if not now["ml"]:
            lines.append(f"{name}: missing, not a single voxel found")
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
            lines.append(f"{name}: {now['ml']:.1f} ml, {low:.1f} to {high:.1f} ml in the training data")
    return lines
