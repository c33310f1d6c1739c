"""Which axes of a network's tensors stand for its classes, or for the channels of its input.

They are found by building the network anew, without memory for its weights, with one class or channel more: an axis
that has grown by one stands for them.
"""

import warnings
from collections.abc import Callable

import torch
from torch import nn


def growing_axes(build: Callable[[int], nn.Module], count: int) -> dict[str, tuple[int, ...]]:
    """The axes that stand for the classes or the channels, by the name of the tensor; only tensors that have any.

    Args:
        build: returns the network for a number of classes or channels.
        count: that number, in the network at hand.

    Raises:
        ValueError: the network depends on the number in another way.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are read from a file, which nothing takes up here
        now, more = (build(number).state_dict() for number in (count, count + 1))
    if now.keys() != more.keys():
        raise ValueError("it has other parts")
    found = {}
    for name, tensor in now.items():
        sizes = list(zip(tensor.shape, more[name].shape, strict=True))
        axes = tuple(axis for axis, (size, grown) in enumerate(sizes) if size != grown)
        if any(sizes[axis] != (count, count + 1) for axis in axes):
            raise ValueError(f"{name} has {list(tensor.shape)} values and would have {list(more[name].shape)}")
        if axes:
            found[name] = axes
    return found
