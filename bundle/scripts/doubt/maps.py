"""The map of doubt: for every voxel the chance, in percent, that its label is wrong."""

import numpy as np

LOOKED_AT = 0.5  # sum of the probabilities, above which a voxel was inside what the network saw


def doubt_of(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the probabilities leave for all other classes, in whole percent.

    Args:
        probability: of the classes, first axis, on the grid of the labels; all 0 where the network saw nothing.
        labels: the label map, of the shape of the other axes.
    """
    chosen = np.take_along_axis(probability, labels[None].astype(np.intp), 0)[0]
    seen = probability.sum(0) > LOOKED_AT
    return np.where(seen, np.rint(100 * (1 - chosen)).clip(0, 100), 0).astype(np.uint8)
