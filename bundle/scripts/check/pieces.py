"""Whether the classes of a label map hang together. `cache.py` asks, while a file is read, if a plan wants to know."""

import numpy as np
from scipy import ndimage


def largest_pieces(values: np.ndarray) -> dict[str, float]:
    """The share of every class that lies in its largest piece, by its value; voxels that share a corner touch.

    Args:
        values: of a label map, whole numbers.
    """
    labels = np.rint(values).squeeze().astype(np.uint8)
    found = {}
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            pieces, _ = ndimage.label(labels[box] == value, np.ones((3,) * labels.ndim))
            sizes = np.bincount(pieces.ravel())[1:]
            found[str(value)] = float(sizes.max() / sizes.sum())
    return found
