"""Where prepared cases can be kept: seconds to prepare and to read a case, and what it takes of disk and memory.

    python benchmarks/caches.py [--size 256 256 128] [--cases 8]

Phantoms of the given size are prepared by train.json's own steps and read again, in one thread. MONAI's
PersistentDataset is compared, and its LMDBDataset where lmdb is installed. The times are medians over the cases, of
processor time; what fills the memory or the database at the start is shared by the cases. The table is left in
demo/caches as caches.md and caches.json.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import common
import torch
from monai.data import CacheDataset, Dataset, LMDBDataset, PersistentDataset
from results import leave
from trainings import DEMO


def ways(data: list[dict], chain, folder: Path) -> dict[str, Callable[[], Dataset]]:
    """How to make a data set in each way."""
    from scripts.training.disk_cache import DiskCache, DiskCacheDataset

    for name in ("ours", "monai", "lmdb"):
        (folder / name).mkdir()
    found = {
        "`--cache none`": lambda: CacheDataset(data, chain, cache_rate=0.0, progress=False),
        "`--cache memory`": lambda: CacheDataset(data, chain, num_workers=1, progress=False),
        "`--cache disk`": lambda: DiskCacheDataset(data, chain, DiskCache(folder / "ours", 2**40)),
        "MONAI's PersistentDataset": lambda: PersistentDataset(data, chain, folder / "monai"),
    }
    if importlib.util.find_spec("lmdb"):
        found["MONAI's LMDBDataset"] = lambda: LMDBDataset(data, chain, folder / "lmdb", progress=False)
    return found


def measure(given: argparse.Namespace) -> list[dict]:
    rows = []
    with common.training(["train.json"], given.cases, 1, tuple(given.size), test_share=0) as made:
        chain, data = made.parser.get_parsed_content("validate::preprocessing"), made.parser.get_parsed_content("data")
        cases = data["training"]
        chain(dict(cases[0]))  # what is done once in a process
        with tempfile.TemporaryDirectory() as folder:
            for name, make in ways(cases, chain, Path(folder)).items():
                used, began = size_of(Path(folder)), time.process_time()
                dataset = make()
                filled = (time.process_time() - began) / len(cases)
                first, later = ([timed(dataset, number) for number in range(len(cases))] for _ in range(2))
                rows.append(
                    {
                        "way": name, "first": filled + median(first), "later": median(later), "cases": len(cases),
                        "disk": (size_of(Path(folder)) - used) / len(cases), "processors": [common.processor()],
                    }
                )  # fmt: skip
    return rows


def timed(dataset: Dataset, number: int) -> float:
    began = time.process_time()
    dataset[number]
    return time.process_time() - began


def size_of(folder: Path) -> int:
    """Bytes on disk of all files: a file with holes takes less than its length."""
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


def table(rows: list[dict]) -> str:
    lines = [
        "| kept by | s for a case, first time | s for a case, later | MiB on disk | processor |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['way']} | {row['first']:.3f} | {row['later']:.4f} | {row['disk'] / 2**20:.1f} "
        f"| {row['processors'][0]} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128], help="of the images on disk")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--output", type=Path, default=DEMO / "caches")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    rows = measure(given)
    leave(rows, table(rows) + "\n", given.output / "caches")


if __name__ == "__main__":
    main()
