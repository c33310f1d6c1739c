"""The memory that the cached cases of a training need. `train.json` calls it before the cases are loaded."""

import logging
import os
from collections.abc import Sequence

from monai.transforms import Compose, RandomizableTrait

from scripts.core.errors import UserError
from scripts.core.processes import is_main_process

logger = logging.getLogger(__name__)


def announce_cache(
    preprocessing: Compose, data: dict, splits: Sequence[str], cache_rate: float, keep_last: bool = False
) -> None:
    """Checks that there are cases for each split, and logs the memory that the cached cases will need.

    Args:
        preprocessing: the transforms of training; those before the first random one are cached.
        data: lists of {"image", "label"} by split.
        splits: the splits that are cached.
        cache_rate: share of the cases that are cached, in [0, 1].
        keep_last: whether training keeps the last epoch; then it needs no validation cases.

    Raises:
        UserError: a split without cases.
    """
    for split in splits:
        if not data[split] and not (split == "validation" and keep_last):
            hint = " or say --keep_last True" if split == "validation" else ""
            raise UserError(f"no {split} cases in the datalist; expected one or more; add some{hint}")
    if not is_main_process():
        return
    deterministic = Compose(preprocessing.transforms[: preprocessing.get_index_of_first(is_random)])
    item = deterministic(data[splits[0]][0])
    size = sum(item[key].numel() * item[key].element_size() for key in ("image", "label"))
    count = sum(int(len(data[split]) * cache_rate) for split in splits)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    shapes = " x ".join(str(n) for n in item["image"].shape[1:])
    logger.info(
        f"cache: {count} cases of {shapes}, {size / 2**20:.1f} MiB each, {count * size / 2**30:.2f} GiB in total"
        + (f"; {free / 2**30:.1f} GiB are free" if free else "")
    )


def is_random(transform: object) -> bool:
    return isinstance(transform, RandomizableTrait)
