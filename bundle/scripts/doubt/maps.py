"""The map of doubt: for every voxel the chance, in percent, that its label is wrong."""

import numpy as np

from scripts.doubt.reliability import heated

LOOKED_AT = 0.5  # sum of the probabilities, above which a voxel was inside what the network saw


def doubt_of(probability: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """What the probabilities leave for all other classes, in whole percent.

    Args:
        probability: of the classes, first axis, on the grid of the labels; all 0 where the network saw nothing.
        labels: the label map, of the shape of the other axes.
        temperature: at which the probabilities are right.
    """
    seen = probability.sum(0) > LOOKED_AT  # before they are heated, which makes something of nothing
    chosen = np.take_along_axis(heated(probability, temperature), labels[None].astype(np.intp), 0)[0]
    return np.where(seen, np.rint(100 * (1 - chosen)).clip(0, 100), 0).astype(np.uint8)
