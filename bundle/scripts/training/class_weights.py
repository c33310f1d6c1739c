"""The weight of each class in a cross-entropy: the rarer a class is in the training labels, the higher its weight.

Recipes name `class_weights` as an argument of their loss.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from scripts.check.cache import MEMORY_NAME, collect_facts
from scripts.check.pictures import image_stamp
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.core.processes import is_main_process
from scripts.data.slices import FolderNames
from scripts.training.fingerprint import digest

logger = logging.getLogger(__name__)

RECORD = "class_weights.json"


def class_weights(
    cases: Sequence[dict], class_names: Sequence[str], output_dir: str, workers: int = 0, bound: float = 20.0
) -> list[float]:
    """Returns a weight for every class, from the number of its voxels in all training labels.

    The numbers are those of the data check, which remembers them in the same folder. They are kept in
    `class_weights.json` as long as the list, the label files and the class names do not change.

    Args:
        cases: the training cases, with a `label` path each. Do not add validation or test cases: they must not
            influence the training.
        class_names: names of the values 0, 1, ..., background first.
        output_dir: folder of `class_weights.json` and of the data check's memory.
        workers: number of threads that read the labels that the data check does not remember; 0 for one per core.
        bound: largest ratio of two weights, see `balanced_weights`.
    """
    several = dist.is_available() and dist.is_initialized()
    found: list[list[float]] = [[]]  # the other processes receive those of the main process
    if is_main_process():
        found = [weights_of_labels(cases, list(class_names), Path(output_dir), workers, bound)]
    if several:
        dist.broadcast_object_list(found)
    return found[0]


def weights_of_labels(cases: Sequence[dict], names: list[str], folder: Path, workers: int, bound: float) -> list[float]:
    """Computes the result of `class_weights`, in the main process."""
    paths = sorted(str(Path(case["label"]).absolute()) for case in cases)
    listed = FolderNames()
    key = digest([names, [[path, image_stamp(path, listed)] for path in paths]])
    kept = read_record(folder / RECORD)
    known = kept.get("key") == key
    voxels = list(kept["voxels"].values()) if known else count_voxels(paths, names, folder, workers)
    weights = balanced_weights(voxels, bound)
    rounded = {name: round(weight, 4) for name, weight in zip(names, weights)}
    content = {"key": key, "labels": len(paths), "voxels": dict(zip(names, voxels)), "bound": bound, "weights": rounded}
    if content != kept:
        write_json(content, folder / RECORD)
    absent = [name for name, number in zip(names, voxels) if not number]
    if absent:
        logger.warning(f"class weights: no training label has any {', '.join(absent)}; the weight is 0")
    text = ", ".join(f"{name} {weight:.3g}" for name, weight in rounded.items())
    logger.info(f"class weights: {text}; from {len(paths)} training labels, {'remembered' if known else 'counted'}")
    return weights


def read_record(file: Path) -> dict:
    """Returns the record of an earlier run. It is empty if there is none or if it is damaged."""
    try:
        kept = read_json(file) if file.is_file() else {}
    except UserError:
        return {}
    return kept if isinstance(kept, dict) and isinstance(kept.get("voxels"), dict) else {}


def count_voxels(paths: Sequence[str], names: Sequence[str], folder: Path, workers: int) -> list[int]:
    """Counts the voxels of every class in all label maps together."""
    files, _ = collect_facts(paths, folder / MEMORY_NAME, workers, fresh=False)
    total = [0] * len(names)
    for path in paths:
        facts = files[path]
        if "error" in facts:
            raise UserError(facts["error"])
        if facts["counts"] is None or max(map(int, facts["counts"])) >= len(names):
            raise UserError(
                f"{path}: found values up to {facts['most']:g}, expected labels from 0 to {len(names) - 1} "
                f"({', '.join(names)}); name the classes of the labels with --class_names"
            )
        for value, number in facts["counts"].items():
            total[int(value)] += number
    return total


def balanced_weights(voxels: Sequence[int], bound: float) -> list[float]:
    """Returns weights that are inverse to the frequencies. Their mean over the classes that occur is 1.

    A class that does not occur has weight 0.

    Args:
        voxels: number of voxels of every class, at least one above 0.
        bound: largest ratio of a class's weight to that of the most frequent class, 1 or more. With 1 all weights are
            equal.
    """
    if bound < 1:
        raise UserError(f"bound is {bound}: expected 1 or more; with 1 the weights of all classes are equal")
    commonest = max(voxels)
    ratios = [min(commonest / number, bound) if number else 0.0 for number in voxels]
    mean = sum(ratios) / sum(number > 0 for number in voxels)
    return [ratio / mean for ratio in ratios]
