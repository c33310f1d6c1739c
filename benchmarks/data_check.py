"""Time and memory of the data check: for one pair read from disk, and for a data set that is remembered.

    python benchmarks/data_check.py [--size 256 256 128] [--cases 211] [--repeats 5]

The data set consists of hard links to a few pairs, so it needs little space. Linked files are read and remembered one
by one, like any others.
"""

import argparse
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from common import seconds

from scripts.check.dataset import check_dataset, find_faults
from scripts.check.nifti import inspect_volume
from scripts.phantoms import generate

DIFFERENT = 4  # pairs that are made


def peaks(data: dict, names: list[str]) -> tuple[float, float]:
    """Peak memory of this process in MiB, before and after a check on two threads."""
    before = peak()
    check_dataset(data, names, workers=2)
    return before, peak()


def peak() -> float:
    """Unlike `ru_maxrss`, this is not inherited from the process that started this one."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def linked(folder: Path, size: tuple, count: int) -> dict:
    """As many pairs as requested, which are links to the same few pairs."""
    made = generate.generate(folder / "made", patients=DIFFERENT, scans=1, size=size)
    pairs = []
    for number in range(count):
        pair = {"image": folder / f"{number}.nii.gz", "label": folder / f"{number}_label.nii.gz"}
        for link, source in zip(pair.values(), made[number % DIFFERENT]):
            os.link(source, link)
        pairs.append({key: str(path) for key, path in pair.items()})
    return {"training": pairs, "patients": {pair["image"]: "the same" for pair in pairs}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--cases", type=int, default=211)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    names = list(generate.CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        data = linked(Path(folder), tuple(given.size), given.cases)
        first = data["training"][0]
        pair = seconds(lambda: find_faults(first["image"], first["label"], names), given.repeats)
        few = {"training": data["training"][: 2 * DIFFERENT], "patients": data["patients"]}
        threads = {n: seconds(lambda n=n: check_dataset(few, names, workers=n), given.repeats) for n in (1, 2)}
        paths = [path for case in few["training"] for path in case.values()]
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(inspect_volume, paths[:2]))  # the processes are there before the clock runs
            processes = seconds(lambda: list(pool.map(inspect_volume, paths)), given.repeats)
        whole = seconds(lambda: check_dataset(data, names, folder), 1)
        again = seconds(lambda: check_dataset(data, names, folder), given.repeats)
        assert check_dataset(data, names, folder).read == 0
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # has made no phantoms
            before, after = fresh.submit(peaks, few, names).result()
    print(f"pairs of {given.size}, int16 and uint8, .nii.gz; median of {given.repeats}")
    print(f"one pair, one core                      {pair:7.2f} s")
    print(f"{2 * DIFFERENT} pairs, 1 thread                       {threads[1]:7.2f} s")
    print(f"{2 * DIFFERENT} pairs, 2 threads                      {threads[2]:7.2f} s")
    print(f"{2 * DIFFERENT} pairs, 2 processes, once started      {processes:7.2f} s")
    print(f"{given.cases} pairs, all read, {os.cpu_count()} cores              {whole:7.2f} s")
    print(f"{given.cases} pairs, all remembered               {again:7.2f} s")
    print(f"peak memory, 2 threads: {after:.0f} MiB, {after - before:.0f} MiB more than before the first file")


if __name__ == "__main__":
    main()
