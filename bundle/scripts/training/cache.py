"""Where prepared cases of a training are kept: in memory, on disk or nowhere. `train.json` asks before it loads one.

A case that was prepared once, up to the first random transform, is the same in every epoch, in every run of a study and
in every process. In memory it is lost when the process ends, and a large data set does not fit. On disk it stays, and
others find it.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai.data import CacheDataset, Dataset
from monai.transforms import Compose

from scripts.core.errors import UserError
from scripts.core.memory import available_memory
from scripts.core.processes import is_main_process, number_and_count
from scripts.training.disk_cache import DiskCache, DiskCacheDataset, first_random, folder_size

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.6  # of the free memory, that "auto" takes at most; the network and the batches need some as well
DISK_SHARE = 0.9  # of the free disk


@dataclass(frozen=True)
class Kept:
    """Where the cases of a run are kept.

    Attributes:
        where: "memory", "disk" or "none".
        share: of the cases in memory, in [0, 1].
        disk: the cache on disk, if there is one.
    """

    where: str
    share: float = 1.0
    disk: DiskCache | None = None


def choose_cache(
    preprocessing: Compose,
    data: dict,
    splits: Sequence[str],
    cache: str,
    cache_rate: float,
    cache_dir: str | Path,
    cache_limit: float,
    keep_last: bool = False,
) -> Kept:
    """Checks that there are cases for each split, prepares one, and chooses by its size where all of them are kept.

    Args:
        preprocessing: the transforms of training; the results of those before the first random one are kept.
        data: lists of {"image", "label"} by split.
        splits: the splits that are kept.
        cache: "memory", "disk", "none", or "auto": memory if the cases fit with room to spare, else the disk.
        cache_rate: share of the cases that are kept in memory, in [0, 1].
        cache_dir: folder of the cache on disk.
        cache_limit: GiB that it may hold.
        keep_last: whether training keeps the last epoch; then it needs no validation cases.

    Raises:
        UserError: a split without cases, or a folder that can't be written.
    """
    for split in splits:
        if not data[split] and not (split == "validation" and keep_last):
            hint = " or say --keep_last True" if split == "validation" else ""
            raise UserError(f"no {split} cases in the datalist; expected one or more; add some{hint}")
        if 0 < len(data[split]) < (processes := number_and_count()[1]):
            raise UserError(
                f"{len(data[split])} {split} cases for {processes} processes; expected one for each at least; "
                "add some, or start fewer processes"
            )
    item = Compose(preprocessing.transforms[: first_random(preprocessing)])(data[splits[0]][0])
    size = sum(item[key].numel() * item[key].element_size() for key in ("image", "label"))
    count = sum(len(data[split]) for split in splits)
    free = available_memory()
    if cache == "auto":
        needed = size * count * cache_rate * processes_here()
        cache = "memory" if free is None or needed <= MEMORY_SHARE * free else "disk"
    kept = Kept(cache, cache_rate if cache == "memory" else 0.0)
    place = "in memory" + (f", of which {free / 2**30:.1f} GiB are free" if free else "")
    if cache == "disk":
        kept, place = on_disk(Path(cache_dir), cache_limit, size * count)
    elif cache == "none":
        place = "prepared anew in every epoch"
    if is_main_process():
        count = int(count * cache_rate) if cache == "memory" else count
        shapes = " x ".join(str(n) for n in item["image"].shape[1:])
        logger.info(
            f"cache: {count} cases of {shapes}, {size / 2**20:.1f} MiB each, "
            f"{count * size / 2**30:.2f} GiB in total, {place}"
        )
    return kept


def on_disk(folder: Path, limit: float, needed: int) -> tuple[Kept, str]:
    """The cache in a folder, and what the log says of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
        free = shutil.disk_usage(folder).free
    except OSError:
        writable, free = False, 0
    if not writable:
        raise UserError(f"{folder}: can't be written, expected a folder for the cache; name another one (--cache_dir)")
    most = min(int(limit * 2**30), folder_size(folder) + int(DISK_SHARE * free))
    place = f"on disk in {folder}, which may hold {most / 2**30:.1f} GiB"
    if needed > most:
        place += "; those that do not fit are prepared anew in every epoch"
    return Kept("disk", 0.0, DiskCache(folder, most)), place


def kept_dataset(data: Sequence, transform: Compose, kept: Kept, workers: int = 1, progress: bool = False) -> Dataset:
    """Returns the data set that goes with a choice.

    Args:
        data: dictionaries with `image` and `label`.
        transform: all transforms, the random ones last.
        kept: as from `choose_cache`.
        workers: threads that fill the memory.
        progress: whether that is shown.
    """
    if kept.disk is not None:
        return DiskCacheDataset(data, transform, kept.disk)
    return CacheDataset(data, transform, cache_rate=kept.share, num_workers=workers, progress=progress)


def processes_here() -> int:
    """How many processes of this run are on this machine; each has a memory of its own."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
