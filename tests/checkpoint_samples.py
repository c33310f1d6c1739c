"""A tiny network, what is known of its weights, and small tools for files of weights."""

import torch

from scripts.networks.improved_unet import ImprovedUNet

NAMES = ["background", "body"]
RANGES = {"body": {"ml": [1.5, 2.5], "pieces": 1, "border": 0.0, "n": 2}}
INFO = {"class_names": NAMES, "trained_on": "phantoms", "ranges": RANGES, "epoch": 7, "score": 0.8125}


def network(seed=0, **arguments):
    torch.manual_seed(seed)
    return ImprovedUNet(**{"features": 1, "levels": 3, "out_channels": 2, **arguments})


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(file, bit: int) -> None:
    """Turns one bit of a file around."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
