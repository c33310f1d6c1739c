"""What a GPU makes of the bundle: steps, epochs, inference, a training, resuming, two cards, the tests that need one.

    python benchmarks/gpu.py [--only PIECE ...] [--data DIR] [--peak TFLOPS] [--output DIR]
    python benchmarks/gpu.py --device cpu --tiny

Each piece takes less than ten minutes on a large GPU, and its results are kept as soon as it ends: what is there is not
measured again. --data is the folder of the hippocampus images (Decathlon Task04), on which a recipe is trained to its
Dice; without it, phantoms are. --peak is the specified speed of the card in bfloat16, in TFLOP/s. --tiny does the same
in seconds on tiny images, to try the script itself; its figures mean nothing. The table is left in demo/gpu as gpu.md
and gpu.json. Research use only.
"""

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import common
import full_size
import nibabel as nib
import numpy as np
import torch
from ignite.engine import Events
from results import earlier_rows, leave
from trainings import DEMO

GOALS = {  # piece and row: what is hoped for on an H200
    ("steps", "128x128x64, batch 2, bfloat16"): "at most 7 ms, 3 GiB",
    ("steps", "128x128x64, batch 8, bfloat16"): "15 % of the peak",
    ("steps", "256x256x128, batch 1, bfloat16"): "at most 12 GiB",
    ("epoch", "data on the device"): "at most 1.05 times an epoch without data",
}
NAMES = {"step": "bfloat16"} | {name: f"bfloat16, {name}" for name in full_size.CHANGES[:5]}
FAILED = "failed"
NO_TESTS = 5  # status of pytest where none was found
ON_DEVICE = "$@deterministic_chain + [monai.transforms.ToDeviced(('image', 'label'), @device)] + @random_chain"


def steps(given: Namespace) -> Iterator[dict]:
    """Training steps at three sizes, each with one change after the other, and the network alone."""
    sizes = [((128, 128, 64), 2, 30), ((128, 128, 64), 8, 10), ((256, 256, 128), 1, 5)]
    sizes = [((32, 32, 16), 1, 1)] if given.tiny else sizes
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "monai.losses", "monai.networks.blocks"])
    for size, batch, repeats in sizes:
        chosen = Namespace(
            size=list(size), batch=batch, features=2 if given.tiny else 16, repeats=repeats, half=True, give_back=False,
            device=given.device,
        )  # fmt: skip
        for kind in (*full_size.STEPS, *full_size.CHANGES):
            name = f"{'x'.join(map(str, size))}, batch {batch}, {NAMES.get(kind, kind)}"
            found = full_size.in_a_process(kind, chosen, context)
            if isinstance(found, str):
                yield {"row": name, "said": found}
                continue
            share = f", {100 * found['flops'] / 1e12 / given.peak:.0f} % of the peak" if given.peak else ""
            yield {
                "row": name, **found,
                "said": f"{1000 * found['seconds']:.1f} ms, {found['gib']:.1f} GiB{share}",
            }  # fmt: skip


class Switching:
    """A loader that gives the real batches in odd epochs, and one batch that lies ready in even ones."""

    def __init__(self, loader, device: str):
        self.loader, self.epoch, self.dataset = loader, 0, loader.dataset
        first = next(iter(loader))
        self.ready = first | {key: first[key].to(device) for key in ("image", "label")}

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        self.epoch += 1
        return iter(self.loader) if self.epoch % 2 else iter([self.ready] * len(self))


class Clock:
    """Seconds of the training part of each epoch: of those without data under 0, of the others under 1."""

    def __init__(self, loader: Switching, given: Namespace):
        self.loader, self.given = loader, given
        self.began = 0.0
        self.times: dict[int, list[float]] = {0: [], 1: []}

    def begin(self) -> None:
        self.began = self.now()

    def end(self) -> None:
        self.times[self.loader.epoch % 2].append(self.now() - self.began)

    def now(self) -> float:
        if self.given.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def epoch(given: Namespace) -> Iterator[dict]:
    """The training part of an epoch over the same on a batch that lies ready: what the data cost."""
    size, cases, repeats = ((32, 32, 16), 4, 1) if given.tiny else ((128, 128, 64), 32, 5)
    ways = {
        "data in memory, one process": {"num_workers": 0},
        "data in memory, four processes": {"num_workers": 4},
        "data on the device": {"num_workers": 0, "train::preprocessing::transforms": ON_DEVICE},
    }
    for name, overrides in ways.items():
        chosen = {
            "spatial_size": size,
            "device": given.device,
            "epochs": 2 * repeats + 2,
            "calibrate": False,
        } | overrides
        chosen |= {"features": 2 if given.tiny else 16, "validation_share": 0.01, "test_share": 0, "val_interval": 1000}
        with common.training(["train.json"], cases + 1, 1, size, **chosen, show_progress=False) as made:
            trainer = made.parser.get_parsed_content("train::trainer")
            loader = Switching(trainer.data_loader, given.device)
            trainer.data_loader = loader
            clock = Clock(loader, given)
            trainer.add_event_handler(Events.EPOCH_STARTED, clock.begin)
            trainer.add_event_handler(Events.ITERATION_COMPLETED(every=len(loader)), clock.end)
            made.run()
        real, ready = (clock.times[side][1:] for side in (1, 0))
        ratios, seconds = [data / without for data, without in zip(real, ready)], median(real)
        said = f"{median(ratios):.3f} times an epoch without data ({seconds:.2f} s)"
        yield {"row": name, "ratio": median(ratios), "seconds": seconds, "said": said}


def inference(given: Namespace) -> Iterator[dict]:
    """From file to file, and how much of it is reading and writing."""
    from scripts.data.layouts import find_images
    from scripts.phantoms.generate import generate

    size, cases = ((32, 32, 16), 1) if given.tiny else ((256, 256, 128), 6)
    with tempfile.TemporaryDirectory() as folder:
        generate(f"{folder}/data", patients=cases + 1, scans=1, size=size)
        models = trained_briefly(Path(folder), given)
        files = find_images(Path(folder) / "data")
        began = time.perf_counter()
        for file in files:
            image = nib.load(file)
            values = np.asanyarray(image.dataobj)
            nib.save(nib.Nifti1Image((values > values.mean()).astype(np.uint8), image.affine), f"{folder}/out.nii.gz")
        alone = (time.perf_counter() - began) / len(files)
        for name, patches in {"as shipped": (), "configs/fast.json": ("fast.json",)}.items():
            out, tiny = Path(folder) / name, {"spatial_size": size, "features": 2} if given.tiny else {}
            made = common.inference(Path(folder) / "data", models, out, *patches, device=given.device, **tiny)
            began = time.perf_counter()
            made.run()
            seconds = (time.perf_counter() - began) / len(files)
            made.finalize()
            said = f"{seconds:.2f} s a case, {seconds / alone:.2f} times reading and writing alone ({alone:.2f} s)"
            yield {"row": name, "seconds": seconds, "ratio": seconds / alone, "said": said}


def trained_briefly(folder: Path, given: Namespace) -> Path:
    """Folder of weights of the default network after an epoch on small phantoms."""
    size = (32, 32, 16)
    chosen = {"spatial_size": size, "epochs": 1, "validation_share": 0.01, "test_share": 0, "calibrate": False}
    chosen["features"] = 2 if given.tiny else 16
    with common.training(["train.json"], 3, 1, size, **chosen, device=given.device, show_progress=False) as made:
        made.parser["ckpt_dir"] = str(folder / "models")
        made.run()
    return folder / "models"


def training(given: Namespace) -> Iterator[dict]:
    """A recipe, from the first epoch to the Dice of its validation cases."""
    folder, chosen = given.output / "training", {}
    data = given.data
    if data is None:
        from scripts.phantoms.generate import generate

        data = folder / "phantoms"
        generate(data, patients=6, scans=1, size=(32, 32, 32), layout="decathlon")
        chosen = {"class_names": json.loads((data / "dataset.json").read_text())["labels"].values()}
        chosen["class_names"] = list(chosen["class_names"])
    chosen |= {"epochs": 1, "features": 4, "copies": 1} if given.tiny else {}
    began = time.perf_counter()
    train(["train", "recipe_hippocampus", "strong"], folder, given, dataset_dir=str(data), num_workers=0, **chosen)
    minutes = (time.perf_counter() - began) / 60
    with (folder / "history.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    dice = {name.removeprefix("val_dice_"): float(last[name]) for name in last if name.startswith("val_dice_")}
    said = f"{', '.join(f'{name} {value:.3f}' for name, value in dice.items())} after {minutes:.1f} min"
    yield {
        "row": f"Dice on {'hippocampus' if given.data else 'phantoms'}",
        "minutes": minutes,
        "dice": dice,
        "said": said,
    }


def train(files: list[str], folder: Path, given: Namespace, **chosen) -> None:
    """A training with all it writes in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"output_dir": str(folder), "ckpt_dir": f"{folder}/models"}
    made = common.workflow(files, **paths, device=given.device, calibrate=False, show_progress=False, **chosen)
    made.run()
    made.finalize()


def resume(given: Namespace) -> Iterator[dict]:
    """How far the weights of a run that was stopped and resumed are from those of an unbroken one."""
    from scripts.phantoms.generate import generate

    size = (32, 32, 16)
    with tempfile.TemporaryDirectory() as folder:
        generate(f"{folder}/data", patients=6, scans=1, size=size)
        chosen = {"dataset_dir": f"{folder}/data", "datalist": f"{folder}/datalist.json", "spatial_size": size}
        chosen |= {"features": 2 if given.tiny else 16, "num_workers": 0}
        runs = {
            "whole": [{"epochs": 2}],
            "again": [{"epochs": 2}],
            "broken": [{"epochs": 1}, {"epochs": 2, "resume": True}],
        }
        for name, parts in runs.items():
            for part in parts:
                train(["train"], Path(folder) / name, given, **chosen, **part)
        weights = {
            name: torch.load(f"{folder}/{name}/models/last.pt", map_location="cpu", weights_only=True)["model"]
            for name in runs
        }
    for name, what in {"broken": "resumed, over unbroken", "again": "the same run twice"}.items():
        found = max(distance(weights["whole"][key], weights[name][key]) for key in weights["whole"])
        said = f"weights differ by at most {found:.1e} of the largest of their tensor"
        yield {"row": what, "difference": found, "said": said}


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max() / one.double().abs().max().clamp(min=1e-12))


def processes(given: Namespace) -> Iterator[dict]:
    """A training in two processes: NCCL on two cards, Gloo on a processor."""
    from scripts.phantoms.generate import generate

    if given.device == "cuda" and torch.cuda.device_count() < 2:
        yield {"row": "two processes", "said": "there is one card"}
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(f"{folder}/data", patients=6, scans=1, size=(32, 32, 16))
        words = f"""
            -m torch.distributed.run --standalone --nproc_per_node 2 -m monai.bundle run training
            --config_file "['configs/train.json','configs/multi_gpu_train.json']" --dataset_dir {folder}/data
            --output_dir {folder}/run --ckpt_dir {folder}/run/models --spatial_size [32,32,16] --epochs 2
            --calibrate False --batch_size 1 --num_workers 0 --validation_share 0.4 --features {2 if given.tiny else 16}
        """
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *shlex.split(words)], cwd=common.BUNDLE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr[-300:]))
        seconds = time.perf_counter() - began
    yield {"row": "two processes", "seconds": seconds, "said": f"trained in {seconds:.0f} s, with the start"}


def tests(given: Namespace) -> Iterator[dict]:
    """The tests that need a GPU."""
    words = [sys.executable, "-m", "pytest", "-o", "addopts=", "-n", "0", "-m", "gpu", "tests/training"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=common.BUNDLE.parent)
    lines = [line for line in done.stdout.splitlines() if re.search(r"passed|failed|skipped|error|no tests", line)]
    said = lines[-1].strip("= ") if lines else "no answer"
    if done.returncode not in (0, NO_TESTS):
        raise RuntimeError(f"pytest -m gpu: {said}")
    yield {"row": "pytest -m gpu", "said": said}


PIECES: dict[str, Callable[[Namespace], Iterator[dict]]] = {
    one.__name__: one for one in (steps, epoch, inference, training, resume, processes, tests)
}


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = ["| piece | what | found | goal | device |", "|---|---|---|---|---|"]
    for row in rows:
        goal = GOALS.get((row["piece"], row["row"]), "")
        lines.append(f"| {row['piece']} | {row['row']} | {row['said']} | {goal} | {row['device']} |")
    return "\n".join(lines) + "\n\nResearch use only.\n"


def main() -> None:
    from scripts.core.errors import one_line_reason

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PIECES, default=list(PIECES), metavar="PIECE")
    parser.add_argument("--data", type=common.present, help="folder of the hippocampus images")
    parser.add_argument("--peak", type=float, help="of the card in bfloat16, in TFLOP/s")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="only try the script")
    parser.add_argument("--output", type=Path, default=DEMO / "gpu")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU was found; --device cpu --tiny tries the script without one")
    given.output = given.output.resolve()
    given.data = given.data and given.data.resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if given.device == "cuda" else common.processor()
    kept = given.output / "gpu.json"
    rows = earlier_rows(kept)
    rows = [row for row in rows if row["row"] != FAILED]
    for name in given.only:
        if any(row["piece"] == name for row in rows):
            continue
        try:
            found = list(PIECES[name](given))
        except RuntimeError as error:  # the other pieces have their turn
            found = [{"row": FAILED, "said": one_line_reason(error)}]
        rows += [{"piece": name, **row, "device": device} for row in found]
        leave(rows, table(rows), given.output / "gpu")
    sys.exit(any(row["row"] == FAILED for row in rows))


if __name__ == "__main__":
    main()
