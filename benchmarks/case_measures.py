"""What the report's measures cost on one full-size case: seconds on one core and the peak of the process's memory.

    python benchmarks/case_measures.py [--size 256 256 128] [--repeats 5]

The truth is a phantom with five foreground classes. The prediction is the same phantom, moved by two voxels and with a
rough surface. The last line is MONAI's three surface metrics, called one after another.
"""

import argparse
import resource

import numpy as np
import torch
from common import seconds
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from monai.networks.utils import one_hot

from scripts.phantoms import generate
from scripts.report.measures import measure_classes
from scripts.report.strips import strips


def three_metrics(truth: np.ndarray, prediction: np.ndarray, spacing: list[float], count: int) -> None:
    maps = [one_hot(torch.from_numpy(labels.astype(np.int64))[None, None], count) for labels in (prediction, truth)]
    compute_hausdorff_distance(*maps, percentile=95, spacing=spacing)
    compute_average_surface_distance(*maps, symmetric=True, spacing=spacing)
    compute_surface_dice(*maps, class_thresholds=[2.0] * (count - 1), spacing=spacing, use_subvoxels=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    image, truth = generate.make_scan(0, 0, tuple(given.size), 0)
    rough = np.random.default_rng(0).random(truth.shape) < 0.5
    prediction = np.where(rough, np.roll(truth, 2, axis=0), np.roll(truth, 3, axis=0))
    spacing = [float(size) for size in generate.voxel_mm(truth.shape)]
    affine = np.diag([*spacing, 1.0])
    names = list(generate.CLASSES)
    own = seconds(lambda: measure_classes(truth, prediction, spacing, names), given.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pictures = seconds(lambda: strips(image, truth, prediction, affine, names), given.repeats)
    apart = seconds(lambda: three_metrics(truth, prediction, spacing, len(names)), given.repeats)
    print(f"one case of {given.size}, {len(names) - 1} foreground classes, one core, median of {given.repeats}")
    print(f"all measures                     {own:6.2f} s   peak memory of the process {peak:.2f} GiB")
    print(f"pictures of the report           {pictures:6.2f} s")
    print(f"MONAI's three surface metrics    {apart:6.2f} s")


if __name__ == "__main__":
    main()
