"""What doubt and the fingerprint cost: the same inference without them, with the fingerprint, and with doubt.

    python benchmarks/doubt_costs.py NAME RECIPE MODELS DATA [--cases 8] [--repeats 5] [--output DIR]

MODELS is a folder of weights that configs/calibrate.json was run for, RECIPE the patch of their recipe, DATA a folder
of images. The three are run by turns on the same images, on one thread; what counts is the processor time, as the clock
would also count what other programs do. The multiples are of the same round, their median and range. The table of all
sets is left in the output folder as doubt_costs.md and doubt_costs.json.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import common
import torch
from results import leave, rows_of_other_sets
from trainings import DEMO

WAYS = {"without": {}, "fingerprint": {}, "doubt": {"uncertainty": True}}


def seconds(images: Path, models: Path, recipe: str, options: dict) -> float:
    """Processor seconds of an inference."""
    with tempfile.TemporaryDirectory() as out:
        quiet = {"niivue": False, "weeks": False, "show_progress": False, "num_workers": 0}
        run = common.inference(images, models, Path(out), f"{recipe}.json", **quiet, **options)
        began = time.process_time()
        run.run()
        return time.process_time() - began


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| weights | looks | s a case without | with the fingerprint | with doubt | processor |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        cells = [f"{median(row[way]):.2f} times ({min(row[way]):.2f} to {max(row[way]):.2f})" for way in list(WAYS)[1:]]
        lines.append(
            f"| {row['set']} | {row['looks']} | {row['seconds']:.2f} | {cells[0]} | {cells[1]} | {row['processor']} |"
        )
    return "\n".join(lines)


def main() -> None:
    from scripts.data.layouts import find_images
    from scripts.doubt import calibration
    from scripts.training.weights import find_weights

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the weights, for the table")
    parser.add_argument("recipe", type=common.recipe, help="as recipe_hippocampus")
    parser.add_argument("models", type=common.present, help="folder of the weights")
    parser.add_argument("data", type=common.present, help="folder of images")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=DEMO / "doubt")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of_other_sets(given.output / "doubt_costs.json", given.name)
    with tempfile.TemporaryDirectory() as work:
        images, bare, known = (Path(work) / name for name in ("images", "bare", "known"))
        images.mkdir()
        for file in find_images(given.data)[: given.cases]:
            shutil.copy(file, images)
        for folder in (bare, known):
            shutil.copytree(given.models, folder)
        shipped = next((file.name for file in bare.glob("*.json") if file.stem == given.name), None)
        weights = find_weights(str(bare), shipped)
        looks = calibration.read(weights)
        calibration.file_beside(weights).unlink()
        rounds = []
        for _ in range(given.repeats):
            found = {
                way: seconds(images, bare if way == "without" else known, given.recipe, options)
                for way, options in WAYS.items()
            }
            rounds.append(found)
    row = {"set": given.name, "looks": looks.looks if looks else "", "processor": common.processor()}
    row["seconds"] = median(found["without"] for found in rounds) / len(list(images.iterdir()))
    row |= {way: [found[way] / found["without"] for found in rounds] for way in list(WAYS)[1:]}
    rows.append(row)
    leave(rows, f"{table(rows)}\n\nOne thread. Research use only.\n", given.output / "doubt_costs")


if __name__ == "__main__":
    main()
