"""Time of inference from file to file on one core: the shipped workflow and the order of steps of a zoo bundle.

    python benchmarks/inference.py [--size 256 256 128] [--cases 2] [--repeats 3]

Phantoms, network, weights and resizing are the same. The order of the zoo's spleen bundle is softmax, `Invertd` with
interpolation of every class, argmax, `SaveImaged`. The shipped workflow also checks its input and writes volumes and a
report; `fast` adds configs/fast.json. Both interpolate the network's scores; the zoo interpolates their softmax, which
is less exact. `softmax` is `fast` in the zoo's order (--softmax_first True). They run in turns, each time in a new
process that is bound, with its loader, to one core. The time is from loading the weights to the last file. The weights
are from a short training on small phantoms, so that there is a segmentation to compare. The agreement is the share of
voxels with the same label, among those that at least one of the two gives a class other than background.
"""

import argparse
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
import torch
from common import inference, now, since, training

SIZE = [128, 128, 64]  # that the network sees


def alone(call: Callable, *arguments) -> tuple[float, float]:
    """Returns the result of a call in its own process on one core."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=bind) as pool:
        return pool.submit(call, *arguments).result()


def bind() -> None:
    logging.disable(logging.WARNING)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def shipped(
    data: Path, models: Path, out: Path, patches: Sequence[str] = (), overrides: dict | None = None
) -> tuple[float, float]:
    """Seconds of the shipped inference, by the clock and of the processor."""
    made = inference(data, models, out, *patches, num_workers=0, **(overrides or {}))
    began = now()
    made.run()
    seconds = since(began)
    made.finalize()
    return seconds


def zoo(data: Path, models: Path, out: Path) -> tuple[float, float]:
    """Seconds of the same in the zoo's order."""
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedEvaluator
    from monai.inferers import SimpleInferer
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        Invertd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        Resized,
        SaveImaged,
    )

    from scripts.data.layouts import find_images
    from scripts.networks.improved_unet import ImprovedUNet

    network = ImprovedUNet()
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Resized("image", spatial_size=SIZE, mode="trilinear"),
            NormalizeIntensityd("image"),
            EnsureTyped("image"),
        ]
    )
    after = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
            SaveImaged("pred", output_dir=out, separate_folder=False, print_log=False),
        ]
    )
    loader = DataLoader(Dataset([{"image": str(path)} for path in find_images(data)], before), batch_size=1)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), loader, network, inferer=SimpleInferer(), postprocessing=after, amp=False
    )
    began = now()
    network.load_state_dict(torch.load(models / "model.pt", weights_only=True))
    evaluator.run()
    return since(began)


def train_briefly(models: Path, epochs: int = 10) -> None:
    """Writes weights of a short training on small phantoms: what they find has the shape of organs."""
    from scripts.phantoms import generate
    from scripts.training.weights_info import write_weights

    options = {"features": 16, "epochs": epochs, "val_interval": epochs}
    with training(["train.json", "demo.json"], 8, 1, (64, 64, 32), **options) as made:
        made.run()
        weights = made.parser.get_parsed_content("network").state_dict()
    write_weights(weights, {"class_names": list(generate.CLASSES)}, models / "model.pt")


def labels(folder: Path) -> list[np.ndarray]:
    found = [nib.load(path) for path in sorted(folder.glob("*.nii.gz"))]
    return [np.asarray(nib.as_closest_canonical(image).dataobj).astype(np.uint8) for image in found]


def agreement(first: Path, second: Path) -> float:
    """Share of the voxels with the same label in both, over all cases, without common background."""
    same = every = 0
    for a, b in zip(labels(first), labels(second), strict=True):
        either = (a > 0) | (b > 0)
        same, every = same + int((a == b)[either].sum()), every + int(either.sum())
    return same / every


def dice(found: Path, truth: Path) -> float:
    """Mean over cases and classes that the truth has."""
    scores = []
    for a, b in zip(labels(found), labels(truth), strict=True):
        for value in np.unique(b[b > 0]):
            scores.append(2 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum()))
    return float(np.mean(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128], help="of the images on disk")
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10, help="of the training that makes the weights")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    from scripts.phantoms import generate

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate.generate(root / "data", patients=given.cases, scans=1, size=tuple(given.size), seed=1)
        train_briefly(root / "models", given.epochs)
        variants: dict[str, tuple] = {"zoo": (zoo,), "shipped": (shipped,), "fast": (shipped, ["fast.json"])}
        variants["softmax"] = (shipped, ["fast.json"], {"softmax_first": True})
        times: dict[str, list[float]] = {name: [] for name in variants}
        for repeat in range(given.repeats):
            for name, (call, *options) in variants.items():
                out = root / name / str(repeat)
                times[name].append(alone(call, root / "data", root / "models", out, *options)[0] / given.cases)
        agreed = {name: agreement(root / name / "0", root / "zoo" / "0") for name in variants}
        scored = {name: dice(root / name / "0", root / "data" / "semantic_labels_anon") for name in variants}
    print(f"{given.cases} cases of {given.size}, from file to file on one core, median of {given.repeats}")
    for name, values in times.items():
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(
            f"{name:<8} {median(values):>5.2f} s a case, {median(times['zoo']) / median(values):.2f} times the zoo's "
            f"speed, {100 * agreed[name]:.2f} % of its foreground, Dice {scored[name]:.4f}   ({shown})"
        )


if __name__ == "__main__":
    main()
