"""Ways to a faster training step on a processor, each beside the step as it is shipped, in turns.

    python benchmarks/step_variants.py [--sizes 64,64,32 128,128,64] [--steps 5] [--minutes 60] [--output DIR]

A step is train.json's network, loss and optimiser on a batch of two random images that lies ready. Each way has a
process of its own, which waits while the other one works; both have one thread. What counts is the ratio of
neighbouring steps, in processor time; the first two steps are not counted. What this processor has measured is not
measured again; the table is left in demo/step_variants as step_variants.md and step_variants.json.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

UNCOUNTED = 2


@dataclass(frozen=True)
class Way:
    """A way to train.

    Args:
        what: a few words for the table.
        network: overrides of the network.
        environment: of its process.
        prepared: what is done to the network: `channels_last`, or `compiled`.
    """

    what: str
    network: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    prepared: str = ""


SHIPPED, HALF = "shipped", "bfloat16"
WAYS = {
    SHIPPED: Way("as shipped"),
    HALF: Way("bfloat16 in place of float32"),
    "light": Way("`--network_def::variant light`", network={"variant": "light"}),
    "channels_last": Way("channels last in memory", prepared="channels_last"),
    "torch_pages": Way("huge pages by torch", environment={"THP_MEM_ALLOC_ENABLE": "1"}),
    "glibc_pages": Way("huge pages by glibc", environment={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
    "compiled": Way("`torch.compile`", prepared="compiled"),
}


def work(name: str, size: list[int], half: bool) -> None:
    """Does a step for each line that it is sent, and answers its seconds."""
    import common
    from monai.bundle import ConfigParser

    from scripts.core.memory import keep_freed

    keep_freed()  # as every run does
    way = WAYS[name]
    parser = ConfigParser()
    parser.read_config(str(common.BUNDLE / "configs" / "train.json"))
    parser.update({"spatial_size": size, "half": half, "device": "$torch.device('cpu')"})
    parser.update({f"network_def::{key}": value for key, value in way.network.items()})
    torch.manual_seed(0)
    network, loss, optimizer = (parser.get_parsed_content(name) for name in ("network", "loss", "optimizer"))
    inferer, classes = parser.get_parsed_content("train::inferer"), parser.get_parsed_content("out_channels")
    x, y = torch.randn(2, 1, *size), torch.randint(0, classes, (2, 1, *size), dtype=torch.uint8)
    used = network
    if way.prepared == "channels_last":
        network.to(memory_format=torch.channels_last_3d)
        x = x.to(memory_format=torch.channels_last_3d)
    if way.prepared == "compiled":
        used = torch.compile(network)
    for _ in sys.stdin:
        began = time.process_time()
        optimizer.zero_grad()
        loss(inferer(x, used), y).backward()
        optimizer.step()
        print(time.process_time() - began, flush=True)


class Worker:
    """A process that does steps when it is asked to."""

    def __init__(self, name: str, size: list[int], half: bool):
        words = [sys.executable, __file__, "--work", name, "--sizes", ",".join(map(str, size)), *["--half"] * half]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | WAYS[name].environment
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen(words, env=environment, **pipes)

    def step(self) -> float:
        self.process.stdin.write("step\n")
        if not (answer := self.process.stdout.readline()):
            sys.exit(f"a process ended: {' '.join(self.process.args)}")
        return float(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, size: list[int], half: bool, steps: int) -> dict:
    import common

    workers = [Worker(one, size, half or one == HALF) for one in (SHIPPED, name)]
    pairs = [[worker.step() for worker in workers] for _ in range(steps + UNCOUNTED)][UNCOUNTED:]
    for worker in workers:
        worker.close()
    ratios = sorted(shipped / other for shipped, other in pairs)
    row = {"way": name, "size": size, "half": half, "pairs": pairs, "processors": [common.processor()]}
    return row | {"faster": median(ratios), "least": ratios[0], "most": ratios[-1]}


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| way | images | computed in | step as shipped, s | this way, s | times as fast | processor |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    ways = list(WAYS)
    for row in sorted(rows, key=lambda row: (row["processors"], row["size"], row["half"], ways.index(row["way"]))):
        shipped, other = (median(side) for side in zip(*row["pairs"]))
        lines.append(
            f"| {WAYS[row['way']].what} | 2 of {'x'.join(map(str, row['size']))} "
            f"| {'bfloat16' if row['half'] else 'float32'} | {shipped:.2f} | {other:.2f} "
            f"| {row['faster']:.2f} ({row['least']:.2f} to {row['most']:.2f}) | {row['processors'][0]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(n) for n in text.split(",")],
        nargs="+",
        default=[[64, 64, 32], [128, 128, 64]],
    )
    parser.add_argument(
        "--only", choices=[name for name in WAYS if name != SHIPPED], nargs="+", help="some of the ways"
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60, help="that this call may take")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--work", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--half", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.work:
        work(given.work, given.sizes[0], given.half)
        return
    import common
    from results import earlier_rows, leave
    from trainings import DEMO

    from scripts.networks.bfloat16 import supports_bfloat16

    given.output = given.output or DEMO / "step_variants"
    given.output.mkdir(parents=True, exist_ok=True)
    file, deadline = given.output / "step_variants.json", time.monotonic() + 60 * given.minutes
    rows = earlier_rows(file)
    here = [common.processor()]
    measured = [(row["way"], row["size"], row["half"]) for row in rows if row["processors"] == here]
    kinds = [False, True] if supports_bfloat16("cpu") else [False]
    for size in given.sizes:
        for half in kinds:
            for name in given.only or [name for name in WAYS if name != SHIPPED]:
                if (name, size, half) in measured or (name == HALF and (half or len(kinds) == 1)):
                    continue
                if time.monotonic() > deadline:
                    sys.exit("not all is done; the same command goes on from here")
                rows.append(measure(name, size, half, given.steps))
                leave(rows, table(rows) + "\n", given.output / "step_variants")


if __name__ == "__main__":
    main()
