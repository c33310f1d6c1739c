"""PyTorch and OpenVINO on the same network and images: seconds of an image, and whether the labels are the same.

    python benchmarks/runtimes.py NAME PATCH MODELS DATA [--images 8] [--threads 1] [--output DIR]

MODELS is a folder of trained weights, PATCH the patch of their recipe, DATA a folder of images. Every image goes
through every way by turns, in one run; what counts is the processor time of the network, as the clock would also count
what other programs do. The times are medians, with the range of the middle half; the factor is the median over the
images of the time of PyTorch in float32 over that of the way. The first image is not counted. OpenVINO has to be
installed. On a processor with AVX-512, ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 in the environment hold both to
what older ones have. The table of all sets is left in the output folder as runtimes.md and runtimes.json.
"""

import argparse
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import torch
from results import leave, rows_of_other_sets
from trainings import DEMO

FIRST = "PyTorch"


def measure(given: argparse.Namespace) -> list[dict]:
    """A row for each way."""
    from scripts.core.hardware import supports_bfloat16
    from scripts.inference.fastest import FastestInferer, labels_of

    with tempfile.TemporaryDirectory() as out:
        run = common.inference(given.data, given.models, Path(out), f"{given.patch}.json", niivue=False, weeks=False)
        parser = run.parser
        for name in ("weights", "network", "plain_inferer", "preprocessing"):
            parser.get_parsed_content(name)
        network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("plain_inferer")
        chain, listed = parser.get_parsed_content("preprocessing"), parser.get_parsed_content("dataset::data")
        seen: list[torch.Tensor] = []

        def record(x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return network(x)

        with torch.no_grad():
            inferer(chain(dict(listed[0]))["image"].as_tensor()[None], record)
        fastest = FastestInferer(supports_bfloat16("cpu"), ckpt_dir=str(given.models))
        ways = fastest.ways(network, seen[0][:1])
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        same: dict[str, list[float]] = {name: [0.0, 0.0] for name in ways}
        for number, case in enumerate(listed[: given.images + 1]):
            image, expected = chain(dict(case))["image"].as_tensor()[None], None
            for name, way in ways.items():
                began = time.process_time()
                with torch.no_grad():
                    labels = labels_of(inferer(image, way))
                used = time.process_time() - began
                expected = labels if expected is None else expected
                if number:
                    seconds[name].append(used)
                    either = (labels > 0) | (expected > 0)
                    same[name][0] += float((labels == expected)[either].sum())
                    same[name][1] += float(either.sum())
    ratios = {name: float(np.median(np.array(seconds[FIRST]) / used)) for name, used in seconds.items()}
    return [
        {
            "set": given.name, "way": name, "images": len(used), "threads": given.threads, "factor": ratios[name],
            "seconds": np.percentile(used, (25, 50, 75)).tolist(), "same": same[name][0] / max(1.0, same[name][1]),
            "processors": [common.processor()],
        }
        for name, used in seconds.items()
    ]  # fmt: skip


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| weights | network by | threads | s an image, network alone | times as fast | same labels in the foreground "
        "| processor |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        low, middle, high = row["seconds"]
        lines.append(
            f"| {row['set']} | {row['way']} | {row['threads']} | {middle:.2f} ({low:.2f} to {high:.2f}) "
            f"| {row['factor']:.2f} | {100 * row['same']:.2f} % | {row['processors'][0]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the weights, for the table")
    parser.add_argument("patch", type=common.recipe, help="as recipe_hippocampus")
    parser.add_argument("models", type=common.present, help="folder of the weights")
    parser.add_argument("data", type=common.present, help="folder of images")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=DEMO / "runtimes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    kept = rows_of_other_sets(given.output / "runtimes.json", given.name, common.processor())
    rows = kept + measure(given)
    leave(rows, f"{table(rows)}\n\nResearch use only.\n", given.output / "runtimes")


if __name__ == "__main__":
    main()
