"""The loss of accuracy when labels are resized: Dice of labels that are halved and enlarged again, by method.

    python benchmarks/label_resize.py [--size 256 256 128] [--patients 4]

Nearest neighbour takes one voxel of every eight, always at the same corner. The shipped chain averages one map per
class and takes the class with the largest share. The third row keeps the shares: no network can be better at this size.
"""

import argparse

import torch
from common import BUNDLE  # noqa: F401  (puts the bundle on the path)
from monai.networks.utils import one_hot
from torch.nn.functional import interpolate

from scripts.phantoms import generate

CLASSES = ("body", "bones", "bladder", "rectum", "prostate")


def dice(found: torch.Tensor, truth: torch.Tensor) -> list[float]:
    pairs = [(found == value, truth == value) for value in range(1, len(CLASSES) + 1)]
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--patients", type=int, default=4)
    given = parser.parse_args()
    half = [n // 2 for n in given.size]
    scores: dict[str, list] = {"nearest neighbour": [], "largest share": [], "shares kept": []}
    for patient in range(given.patients):
        truth = torch.from_numpy(generate.make_scan(patient, 0, tuple(given.size), 0)[1]).long()[None, None]
        maps = one_hot(truth, len(CLASSES) + 1)
        shares = interpolate(maps, half, mode="trilinear")
        small = {
            "nearest neighbour": interpolate(maps, half, mode="nearest"),
            "largest share": one_hot(shares.argmax(1, keepdim=True), len(CLASSES) + 1),
            "shares kept": shares,
        }
        for name, scored in small.items():
            back = interpolate(scored, given.size, mode="trilinear").argmax(1, keepdim=True)
            scores[name].append(dice(back, truth))
    print(f"Dice of labels halved from {given.size} and brought back, mean of {given.patients} phantoms")
    print(f"{'':<18}" + "".join(f"{name:>10}" for name in (*CLASSES, "mean")))
    for name, values in scores.items():
        means = torch.tensor(values).mean(0)
        print(f"{name:<18}" + "".join(f"{value:>10.3f}" for value in (*means, means.mean())))


if __name__ == "__main__":
    main()
