"""How much each class weighs in a cross-entropy: the rarer in the training labels, the more."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from scripts.check.cache import MEMORY_NAME, collect_facts
from scripts.check.pictures import image_stamp
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.core.processes import is_main_process
from scripts.training.fingerprint import digest

logger = logging.getLogger(__name__)

RECORD = "class_weights.json"


def class_weights(
    cases: Sequence[dict], class_names: Sequence[str], output_dir: str, workers: int = 0, bound: float = 20.0
) -> list[float]:
    """A weight for every class, from the voxels that it has in all labels of the training list together.

    The counts are those of the data check, whose memory lies in the same folder. They are kept in
    `class_weights.json` for as long as list, label files and class names stay as they are.

    Args:
        cases: of the training list, with a `label` path each; no others, or what is held out would shape the training.
        class_names: names of the values 0, 1, ..., background first.
        output_dir: folder of the record and of the data check's memory.
        workers: threads that read what the data check does not remember; 0 for one a core.
        bound: see `balanced`.
    """
    several = dist.is_available() and dist.is_initialized()
    found = [
        weights_of_labels(cases, list(class_names), Path(output_dir), workers, bound) if is_main_process() else None
    ]
    if several:
        dist.broadcast_object_list(found)
    return found[0]


def weights_of_labels(cases: Sequence[dict], names: list[str], folder: Path, workers: int, bound: float) -> list[float]:
    """What `class_weights` returns, for one process."""
    paths = sorted(str(Path(case["label"]).absolute()) for case in cases)
    key = digest([names, [[path, image_stamp(path)] for path in paths]])
    kept = read_record(folder / RECORD)
    known = kept.get("key") == key
    voxels = list(kept["voxels"].values()) if known else count_voxels(paths, names, folder, workers)
    weights = balanced_weights(voxels, bound)
    told = {name: round(weight, 4) for name, weight in zip(names, weights)}
    content = {"key": key, "labels": len(paths), "voxels": dict(zip(names, voxels)), "bound": bound, "weights": told}
    if content != kept:
        write_json(content, folder / RECORD)
    absent = [name for name, number in zip(names, voxels) if not number]
    if absent:
        logger.warning(f"class weights: no training label has any {', '.join(absent)}; the weight is 0")
    listed = ", ".join(f"{name} {weight:.3g}" for name, weight in told.items())
    logger.info(f"class weights: {listed}; from {len(paths)} training labels, {'remembered' if known else 'counted'}")
    return weights


def read_record(file: Path) -> dict:
    """What an earlier run has counted; nothing where that can't be told."""
    try:
        kept = read_json(file) if file.is_file() else {}
    except UserError:
        return {}
    return kept if isinstance(kept, dict) and isinstance(kept.get("voxels"), dict) else {}


def count_voxels(paths: Sequence[str], names: Sequence[str], folder: Path, workers: int) -> list[int]:
    """Voxels of every class in all label maps together."""
    files, _ = collect_facts(paths, folder / MEMORY_NAME, workers, fresh=False)
    total = [0] * len(names)
    for path in paths:
        facts = files[path]
        if "error" in facts:
            raise UserError(facts["error"])
        if facts["counts"] is None or max(map(int, facts["counts"])) >= len(names):
            raise UserError(
                f"{path}: found values up to {facts['most']:g}, expected labels from 0 to {len(names) - 1} "
                f"({', '.join(names)})"
            )
        for value, number in facts["counts"].items():
            total[int(value)] += number
    return total


def balanced_weights(voxels: Sequence[int], bound: float) -> list[float]:
    """Inverse frequencies with a mean of 1 over the classes that occur; one that does not has weight 0.

    Args:
        voxels: of every class, some above 0.
        bound: from 1, how many times the weight of the commonest class a rare class may weigh at most; it is cut to
            that before the mean is made 1. At 1 all weigh alike.
    """
    if bound < 1:
        raise UserError(f"bound is {bound}: expected a number from 1; at 1 all classes weigh alike")
    commonest = max(voxels)
    ratios = [min(commonest / number, bound) if number else 0.0 for number in voxels]
    mean = sum(ratios) / sum(number > 0 for number in voxels)
    return [ratio / mean for ratio in ratios]
