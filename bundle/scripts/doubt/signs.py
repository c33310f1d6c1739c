"""Signs of a good or a bad result that need no truth, one set for each class of a case.

They are taken on the network's grid, from the result itself and from several looks at the image. What they are worth is
learned from cases with a truth, see `model.py`.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from scripts.check.pieces import largest_pieces

SIGNS = {
    "sure": "mean probability of the class where it is",
    "overlap": "the Dice that the probabilities let expect",
    "agreement": "mean Dice of the looks with the result",
    "least": "lowest Dice of a look with the result",
    "spread": "standard deviation of the logarithm of the looks' volumes",
    "border": "mean entropy at the border, as a share of the largest one",
    "loose": "share of the class that is not in its largest piece",
    "growth": "logarithm of the volume that the probabilities let expect over that of the result",
}


def take(
    result: torch.Tensor, looks: Iterable[torch.Tensor], class_names: Sequence[str]
) -> tuple[torch.Tensor, dict[str, dict[str, float]]]:
    """The mean of the looks, and the signs of every class that the result has.

    Args:
        result: labels on the network's grid.
        looks: probabilities, classes first; each is let go before the next one is made.
        class_names: names of the values 0, 1, ...
    """
    total, count = torch.zeros(()), 0
    sizes = {value: size for value in range(1, len(class_names)) if (size := int((result == value).sum()))}
    dices: dict[int, list[float]] = {value: [] for value in sizes}
    volumes: dict[int, list[float]] = {value: [math.log1p(size)] for value, size in sizes.items()}
    for look in looks:
        total, count, labels = total.to(look.device) + look, count + 1, look.argmax(0)
        for value in sizes:
            dices[value].append(dice(labels == value, result == value))
            volumes[value].append(math.log1p(int((labels == value).sum())))
    mean = total / count
    entropy = -(mean * mean.clamp_min(1e-9).log()).sum(0) / math.log(len(class_names))
    pieces = largest_pieces(result.cpu().numpy())
    found = {}
    for value, size in sizes.items():
        mask = result == value
        inside, everywhere = float(mean[value][mask].sum()), float(mean[value].sum())
        found[class_names[value]] = {
            "sure": inside / size,
            "overlap": 2 * inside / (size + everywhere),
            "agreement": float(np.mean(dices[value])),
            "least": min(dices[value]),
            "spread": float(np.std(volumes[value])),
            "border": float(entropy[edge].mean()) if (edge := rim(mask)).any() else 0.0,
            "loose": 1 - pieces[str(value)],
            "growth": math.log(max(everywhere, 0.5) / size),
        }
    return mean, found


def dice(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of two masks, one of which has a voxel at least."""
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def rim(mask: torch.Tensor) -> torch.Tensor:
    """The voxels of a mask and beside it that touch the other kind."""
    given = mask[None, None].float()
    pool = F.max_pool3d if mask.ndim == 3 else F.max_pool2d
    return ((pool(given, 3, 1, 1) + pool(1 - given, 3, 1, 1))[0, 0]) > 1
