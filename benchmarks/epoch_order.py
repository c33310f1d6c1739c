"""Time of an epoch: ratio of the published order of steps, which reads from disk each time, to the shipped one.

    python benchmarks/epoch_order.py [--images 256 256 128] [--size 128 128 64] [--batches 2] [--repeats 3]

A bundle of the zoo prepares every sample in every epoch: it reads the file, augments at full resolution and resizes
last (configs/resize_last.json without a cache). Both orders run in the same plain PyTorch loop with the same network,
loss, optimiser and metrics, so that only the data differ. Batches are prepared in the process that trains. Epochs
alternate; the first of each is not counted; ratios are medians over neighbouring epochs. The time of the network alone,
on a prepared batch, is what no order of steps can save.
"""

import argparse
from contextlib import ExitStack

from common import training
from epoch_overhead import bare_epoch, bare_parts, show, without_data

from scripts.core.memory import keep_freed

ORDERS = {"shipped": (["train.json"], {}), "published": (["train.json", "resize_last.json"], {"cache_rate": 0.0})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs=3, default=[256, 256, 128], help="size on disk")
    parser.add_argument("--size", type=int, nargs=3, default=[128, 128, 64], help="size that the network sees")
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--batches", type=int, default=2, help="training batches of two an epoch")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    keep_freed()  # as every run of the bundle does
    overrides = {"spatial_size": given.size, "features": given.features, "num_workers": 0}
    overrides |= {"validation_share": 0.01, "test_share": 0}
    times: dict[str, list[tuple[float, float]]] = {"shipped": [], "published": [], "network": []}
    with ExitStack() as stack:
        parts = {}
        for name, (files, more) in ORDERS.items():
            made = stack.enter_context(
                training(files, 2 * given.batches + 1, 1, tuple(given.images), **overrides, **more)
            )
            parts[name] = bare_parts(made)
        parts["network"] = without_data(*parts["shipped"])
        for _ in range(given.repeats + 1):
            for name, part in parts.items():
                times[name].append(bare_epoch(*part))
    print(f"epoch of {given.batches} batches of 2 and a validation case, {given.images} seen at {given.size}")
    show(times, {"published over shipped": ("published", "shipped")})


if __name__ == "__main__":
    main()
