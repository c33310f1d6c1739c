"""The Dice on phantoms of a classifier that knows only intensity and position of single voxels, but not neighbours.

    python benchmarks/voxel_classifier.py --patients 10 --scans 2 --test_patients 4

If such a classifier could segment the phantoms, they would not be a test of a network. It is trained twice: with
equally many voxels of each class, and with voxels drawn from all. The better one, by mean foreground Dice on other
patients, is reported.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

sys.path.insert(0, str(Path(__file__).parents[1] / "bundle"))

from scripts.phantoms.generate import CLASSES, generate

VOXELS_PER_SCAN = 12000


def features(image):
    """Returns one row per voxel: intensity, normalised over its image, and position as a fraction of the grid."""
    position = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in image.shape], indexing="ij")
    columns = [(image - image.mean()) / image.std(), *position]
    return np.stack(columns, -1).reshape(-1, 4).astype(np.float32)


def draw_voxels(label, balanced, rng):
    """Returns indices of voxels of one scan: equally many of each class, or drawn from all."""
    if not balanced:
        return rng.choice(label.size, min(VOXELS_PER_SCAN, label.size), replace=False)
    share = VOXELS_PER_SCAN // len(CLASSES)
    members = [np.flatnonzero(label == index) for index in range(len(CLASSES))]
    return np.concatenate([rng.permutation(voxels)[:share] for voxels in members])


def fit(scans, balanced, seed):
    """Fits the classifier to (features, labels) of the training scans."""
    rng = np.random.default_rng(seed)
    drawn = [(x[chosen], y[chosen]) for x, y in scans for chosen in [draw_voxels(y, balanced, rng)]]
    x, y = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    weight = (len(y) / np.bincount(y, minlength=len(CLASSES)).clip(1))[y] if balanced else None
    return HistGradientBoostingClassifier(max_iter=150, random_state=seed).fit(x, y, sample_weight=weight)


def mean_dice(model, scans):
    """Returns the Dice of each class, averaged over the scans."""
    scores = []
    for x, y in scans:
        found = model.predict(x)
        classes = range(len(CLASSES))
        scores.append(
            [2 * np.sum((found == c) & (y == c)) / max(np.sum(found == c) + np.sum(y == c), 1) for c in classes]
        )
    return np.mean(scores, 0)


def run(patients=10, scans=2, size=(64, 64, 32), seed=0, test_patients=4):
    """Makes phantoms, fits both classifiers and returns the name and the Dice per class of the better one."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = generate(folder, patients + test_patients, scans, size, seed)
        arrays = [[np.asarray(nib.load(path).dataobj) for path in pair] for pair in pairs]
    rows = [(features(image), label.ravel()) for image, label in arrays]
    train, test = rows[: patients * scans], rows[patients * scans :]
    tried = {
        name: mean_dice(fit(train, balanced, seed), test) for name, balanced in (("balanced", True), ("natural", False))
    }
    return max(tried.items(), key=lambda item: item[1][1:].mean())


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=10, help="to train on")
    parser.add_argument("--test_patients", type=int, default=4, help="to score on")
    parser.add_argument("--scans", type=int, default=2, help="of each patient")
    parser.add_argument("--size", type=int, nargs=3, default=(64, 64, 32), help="voxels along L, P and S")
    parser.add_argument("--seed", type=int, default=0)
    name, dice = run(**vars(parser.parse_args()))
    print(f"voxel classifier, {name} sample, unseen patients")
    for label, score in zip(CLASSES, dice, strict=True):
        print(f"{label:<12}{score:6.3f}")
    print(f"{'mean 1 to 5':<12}{dice[1:].mean():6.3f}")


if __name__ == "__main__":
    main()
