"""Random samples and an epoch: this bundle beside torchio, and beside a plain loop over MONAI's CacheDataset.

    python3.11 -m venv TORCHIO && TORCHIO/bin/pip install torch==2.13.0 torchio==1.2.1
    python benchmarks/peer_data.py --peer TORCHIO/bin/python [--size 128 128 64] [--repeats 5]

A sample: a prepared image with its labels is turned about three axes, mirrored along one by chance, and gets noise, as
train.json does it, and as torchio's RandomAffine, RandomFlip and RandomNoise do it. Both run in processes of their own,
in turns, and keep to one thread.

An epoch: the shipped trainer with all its handlers, and a loop as MONAI's tutorials have it, a CacheDataset with the
same steps whose tensors keep their metadata, with the same network, loss, optimiser and Dice. Their epochs alternate in
one process; the first of each isn't counted. The seconds are those of the processor. The table is left in
demo/peer_data as peer_data.md and peer_data.json.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

import torch

PEER = "torchio 1.2.1"


def seconds_a_sample(make, count: int) -> float:
    """Processor seconds of a sample: the median. The first one is not counted."""
    times = []
    for _ in range(count + 1):
        began = time.process_time()
        make()
        times.append(time.process_time() - began)
    return median(times[1:])


def sample_ours(size: list[int], count: int) -> dict:
    """Of the bundle's own random steps; and the settings that the peer is to have."""
    import common

    with common.training(
        ["train.json"], 2, 1, tuple(size), spatial_size=size, validation_share=0.5, test_share=0
    ) as made:
        get = made.parser.get_parsed_content
        dataset = get("train::dataset")
        taken = seconds_a_sample(lambda: dataset[0], count)
        names = ("rotate_range", "flip_axis", "flip_probability", "noise_std")
        return {"seconds": taken, **{name: get(name) for name in names}}


def sample_peer(size: list[int], count: int, settings: dict) -> dict:
    """The same of torchio. The peer's Python runs this function."""
    import torchio

    degrees = settings["rotate_range"] * 180 / torch.pi
    change = torchio.Compose(
        [
            torchio.RandomAffine(scales=0, degrees=degrees, default_pad_value="minimum"),
            torchio.RandomFlip(settings["flip_axis"], flip_probability=settings["flip_probability"]),
            torchio.RandomNoise(std=settings["noise_std"]),
        ]
    )
    image, label = torch.randn(1, *size), torch.randint(0, 6, (1, *size), dtype=torch.uint8)
    subject = torchio.Subject(image=torchio.ScalarImage(tensor=image), label=torchio.LabelMap(tensor=label))

    def make() -> None:
        made = change(subject)
        made.image.data.float(), made.label.data

    return {"seconds": seconds_a_sample(make, count)}


def alone(python: str, *arguments: object) -> dict:
    """Runs one of the two functions above in a process with one thread."""
    from training_steps import timed

    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return timed(python, *arguments, script=__file__)


def samples(given: argparse.Namespace) -> dict:
    size = ["--size", *given.size]
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(given.repeats):
        ours = alone(sys.executable, "--only", "ours", *size)
        peer = alone(given.peer, "--only", "peer", *size, "--settings", json.dumps(ours))
        for name, one in (("ours", ours), ("peer", peer)):
            found[name].append(one["seconds"])
    return {"what": f"a random sample of {' x '.join(map(str, given.size))}", "peer_name": PEER, **found}


def epochs(given: argparse.Namespace) -> dict:
    """Processor seconds of epochs of the shipped trainer and of a plain loop over a CacheDataset."""
    import common
    from epoch_overhead import alternate, bare_parts
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import Compose

    size = [n // 2 for n in given.size]
    overrides = {"spatial_size": size, "features": 16, "num_workers": 0, "show_progress": False, "cache": "memory"}
    overrides |= {"epochs": given.repeats + 1, "validation_share": 0.01, "test_share": 0}
    with common.training(["train.json"], 2 * given.batches + 1, 1, tuple(size), **overrides) as made:
        get = made.parser.get_parsed_content
        network, optimizer, loss, schedule, _, post, classes = bare_parts(made)
        steps = {"training": get("deterministic_chain") + get("random_chain")[:-1]}
        steps["validation"] = get("deterministic_chain")
        loaders = [
            DataLoader(CacheDataset(get("data")[split], Compose(chain), progress=False), batch, shuffle=batch > 1)
            for (split, chain), batch in zip(steps.items(), (get("batch_size"), 1))
        ]
        times = alternate(made, {"peer": (network, optimizer, loss, schedule, loaders, post, classes)})
    used = {name: [worked for _, worked in taken[1:]] for name, taken in times.items()}
    return {
        "what": f"an epoch of {given.batches} batches of 2 at {' x '.join(map(str, size))}",
        "peer_name": "a loop over MONAI's CacheDataset", "ours": used["trainer"], "peer": used["peer"],
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| what | here, s | the other, s | the other over this one | the other | processor |",
        "|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        ratios = sorted(peer / ours for ours, peer in zip(row["ours"], row["peer"]))
        lines.append(
            f"| {row['what']} | {median(row['ours']):.3f} | {median(row['peer']):.3f} "
            f"| {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {row['peer_name']} "
            f"| {row['processors'][0]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="the Python of an environment that has torchio; else without its row")
    parser.add_argument("--size", type=int, nargs=3, default=[128, 128, 64], help="of a sample; half of it in an epoch")
    parser.add_argument("--batches", type=int, default=8, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10, help="in each repeat")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.only == "peer":
        print(json.dumps(sample_peer(given.size, given.samples, given.settings)))
        return
    if given.only == "ours":
        print(json.dumps(sample_ours(given.size, given.samples)))
        return
    import common
    from results import leave
    from trainings import DEMO

    given.output = given.output or DEMO / "peer_data"
    given.output.mkdir(parents=True, exist_ok=True)
    rows = [samples(given)] if given.peer else []
    rows = [row | {"processors": [common.processor()]} for row in [*rows, epochs(given)]]
    leave(rows, f"{table(rows)}\n", given.output / "peer_data")


if __name__ == "__main__":
    main()
