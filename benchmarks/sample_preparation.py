"""Time to prepare one training sample after the first epoch: the shipped and the published order of steps.

    python benchmarks/sample_preparation.py [--size 256 256 128] [--samples 8]

The published order augments at full resolution and resizes last (configs/resize_last.json); the shipped one resizes
first and caches, so that only the augmentation at the network's size is left. One thread is used.
"""

import argparse
import statistics
import time
from contextlib import ExitStack

import torch
from common import training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128], help="of the images on disk")
    parser.add_argument("--samples", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    variants = {
        "shipped": (["train.json"], {}),
        "published order, cached up to its first random step": (["train.json", "resize_last.json"], {}),
        "published order, read from disk each time": (["train.json", "resize_last.json"], {"cache_rate": 0.0}),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    with ExitStack() as stack:
        datasets = {}
        for name, (files, overrides) in variants.items():
            made = stack.enter_context(training(files, 3, 1, tuple(given.size), test_share=0, **overrides))
            datasets[name] = made.parser.get_parsed_content("train::dataset")
        for sample in range(given.samples + 1):
            for name, dataset in datasets.items():
                began = time.perf_counter()
                dataset[sample % len(dataset)]
                times[name].append(time.perf_counter() - began)
    shipped = statistics.median(times["shipped"][1:])
    print(f"one sample from {given.size}, one thread, median of {given.samples}")
    for name, values in times.items():
        median = statistics.median(values[1:])
        print(f"{name:<52} {1000 * median:>7.0f} ms   {median / shipped:>5.1f}x")


if __name__ == "__main__":
    main()
