"""What a data set is like as a whole: the facts that settings depend on. One line at the start of a run says it.

The facts are those of `scripts.check.nifti.inspect_volume`; no file is read for them. `python -m scripts.plan` chooses
settings by them.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scripts.check import sketch
from scripts.check.nifti_header import sizes_text
from scripts.check.rules import ListedCase

ENOUGH = 10  # images that are needed to say that all have one hand
ONE_HAND = 0.2  # median of `likeness` from which on a data set has one hand; of symmetric bodies it is 0
MOST = 500  # images that are looked at for that, spread over all of them: each needs memory
LONG = 3.0  # a voxel with such a ratio of its sides is worth a word
DIFFERENT = 1.5  # likewise, images whose voxels differ by this factor
TINY = 0.001  # likewise, a class with this share of the voxels


def likeness(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """How much more each picture is like the mean of the others than like the mirror image of that mean.

    Args:
        pictures: on one grid, whose first axis is right and left.

    Returns:
        Differences of two correlations. Above 0 everywhere: the pictures have one hand. About 0: the body is symmetric,
        or both hands are among them.
    """
    rows = np.array([picture - picture.mean() for picture in pictures])
    lengths = np.sqrt((rows**2).sum(axis=(1, 2, 3), keepdims=True))
    rows = rows / np.maximum(lengths, 1e-9)
    others = rows.sum(axis=0) - rows
    sizes = np.maximum(np.sqrt((others**2).sum(axis=(1, 2, 3))), 1e-9)
    return (rows * (others - np.flip(others, 1))).sum(axis=(1, 2, 3)) / sizes


def has_one_hand(found: np.ndarray) -> bool:
    """Whether mirror images would be unlike all pictures, by their `likeness`. It bears one odd picture in ten."""
    return len(found) >= ENOUGH and bool(np.median(found) > ONE_HAND and np.quantile(found, 0.1) > 0)


def hands(images: Sequence[Mapping], labels: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """The `likeness` of the images, and of the label maps.

    Args:
        images: facts on each.
        labels: likewise.
    """
    images, labels = (some[:: -(-len(some) // MOST) or 1] for some in (images, labels))
    outlines = [np.sum([*places.values()], axis=0) for places in map(sketch.places, labels) if places]
    pictures: dict[str, list[np.ndarray]] = {"images": [sketch.means(facts) for facts in images], "labels": outlines}
    return {name: likeness(of) for name, of in pictures.items() if len(of) > 1}


def class_shares(labels: Iterable[Mapping], class_names: Sequence[str]) -> dict[str, float]:
    """The median share of the voxels of each foreground class, in the label maps that have it."""
    found: dict[str, list[float]] = {name: [] for name in class_names[1:]}
    for counts in (facts["counts"] for facts in labels if facts["counts"]):
        for value, name in enumerate(class_names):
            if value and counts.get(str(value)):
                found[name].append(counts[str(value)] / sum(counts.values()))
    return {name: float(np.median(shares)) for name, shares in found.items() if shares}


def describe(
    cases: Sequence[ListedCase], files: Mapping[str, dict], class_names: Sequence[str], mirrored: bool = True
) -> list[str]:
    """Says what is special about the data, and which knob answers it; the list is empty if nothing is.

    Args:
        cases: of the data set.
        files: facts on each file.
        class_names: names of the values 0, 1, ...
        mirrored: whether the training has mirror images.
    """
    images, labels = (
        [files[path] for path in dict.fromkeys(paths) if path and "error" not in files[path]]
        for paths in ((case.image for case in cases), (case.label for case in cases))
    )
    if not images:
        return []
    said = []
    if mirrored and any(has_one_hand(found) for found in hands(images, labels).values()):
        said.append("no case is a mirror image of another, so mirror images suit them badly (flip_probability 0)")
    spacing = np.array([facts["spacing"] for facts in images])
    usual = np.median(spacing, axis=0)
    if usual.max() >= LONG * usual.min():
        said.append(f"the voxels are long, {sizes_text(usual)} mm along R, A and S (a smaller rotate_range)")
    low, high = spacing.min(axis=0), spacing.max(axis=0)
    if (high >= DIFFERENT * low).any():
        said.append(f"the voxels differ, from {sizes_text(low)} to {sizes_text(high)} mm")
    for name, share in class_shares(labels, class_names).items():
        if share < TINY:
            said.append(f"{name} is tiny, {share:.2%} of the voxels (a larger spatial_size)")
    return said
