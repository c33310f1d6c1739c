"""Peak memory of an inference, from the start of the process to its last file, over that of the network alone.

    python benchmarks/inference_memory.py [--size 256 256 128] [--cases 2]

Each way has a process of its own. `network alone` imports the same libraries and calls the network once, at the size
that it sees in inference, 128x128x64. The others are the shipped inference of phantoms of the given size, one after
the other, with its checks, pictures and report; what counts is the larger of its process and its loader's, which share
most of their memory. The table is left in demo/inference_memory as inference_memory.md and inference_memory.json.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import torch
from results import leave
from trainings import DEMO

SIZE = (128, 128, 64)  # that the network sees
WAYS: dict[str, dict] = {
    "inference as shipped": {},
    "the same in the main process": {"num_workers": 0},
    "with `configs/fast.json`": {"patches": ("fast.json",)},
    "with `--uncertainty True`": {"uncertainty": True, "doubt_from": "shifts"},
}


def network_alone() -> float:
    """GiB of a process that has called the network once, as an inference does."""
    import monai.bundle
    import monai.engines
    import monai.handlers  # noqa: F401

    from scripts.core.memory import keep_freed
    from scripts.networks.improved_unet import ImprovedUNet

    keep_freed()
    with torch.no_grad():
        ImprovedUNet().eval()(torch.zeros(1, 1, *SIZE))
    return peak()


def whole(data: str, models: str, out: str, chosen: dict) -> float:
    """GiB of an inference."""
    given = dict(chosen)
    made = common.inference(Path(data), Path(models), Path(out), *given.pop("patches", ()), **given)
    made.parser["pictures"] = True
    made.run()
    made.finalize()
    return peak()


def peak() -> float:
    """Of this process, or of a loader of it if that took more."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20


def alone(call: str) -> float:
    """Returns the result of a call of this module in a Python of its own."""
    words = [sys.executable, "-c", f"import inference_memory as here; print(here.{call})"]
    done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def measure(given: argparse.Namespace) -> list[dict]:
    from scripts.phantoms.generate import generate

    rows = [{"way": "network alone", "gib": alone("network_alone()")}]
    with tempfile.TemporaryDirectory() as folder:
        generate(f"{folder}/data", patients=given.cases, scans=1, size=tuple(given.size))
        small = {"spatial_size": (32, 32, 16), "epochs": 1, "validation_share": 0.01, "test_share": 0}
        with common.training(["train.json"], 3, 1, (32, 32, 16), **small, calibrate=False) as made:
            made.parser["ckpt_dir"] = f"{folder}/models"
            made.run()
        for number, (name, chosen) in enumerate(WAYS.items()):
            found = alone(f"whole('{folder}/data', '{folder}/models', '{folder}/{number}', {chosen!r})")
            rows.append({"way": name, "gib": found})
    return [row | {"factor": row["gib"] / rows[0]["gib"], "processors": [common.processor()]} for row in rows]


def table(rows: list[dict]) -> str:
    lines = ["| what | peak, GiB | times the network alone | processor |", "|---|---:|---:|---|"]
    lines += [f"| {row['way']} | {row['gib']:.2f} | {row['factor']:.2f} | {row['processors'][0]} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128], help="of the images on disk")
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--output", type=Path, default=DEMO / "inference_memory")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = measure(given)
    leave(rows, table(rows) + "\n", given.output / "inference_memory")


if __name__ == "__main__":
    main()
