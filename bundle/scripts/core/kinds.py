"""Of what kind an object is, in a few plain words that are the same in every process."""

import hashlib
import json
import math
import types
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

ALIKE = {"DiskCacheDataset": "CacheDataset"}  # where cases are kept makes no difference to a training


def is_plain(thing: object) -> bool:
    if isinstance(thing, list | tuple):
        return all(map(is_plain, thing))
    return thing is None or isinstance(
        thing, str | int | float | Path | Enum | torch.dtype | np.dtype | np.generic | type | slice | range
    )


def plain(thing: object) -> object:
    """As JSON holds it: numbers, texts and lists."""
    if isinstance(thing, list | tuple):
        return [plain(item) for item in thing]
    if isinstance(thing, np.generic):
        return plain(thing.item())
    if isinstance(thing, Enum):
        return f"{type(thing).__name__}.{thing.name}"
    if isinstance(thing, float) and not math.isfinite(thing):
        return str(thing)
    if thing is None or isinstance(thing, str | bool | int | float):
        return thing
    return thing.__qualname__ if isinstance(thing, type) else str(thing)


def bare(thing: Any) -> Any:
    """A network without the wrapper that spreads it over several processes or compiles it."""
    while isinstance(thing, torch.nn.Module):
        if isinstance(thing, torch.nn.parallel.DistributedDataParallel):
            thing = thing.module
        elif type(thing).__name__ == "OptimizedModule":
            thing = thing._orig_mod
        else:
            break
    return thing


def has_content(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (an empty cell raises an error)
    except ValueError:
        return False
    return True


def kind(thing: object) -> object:
    """What an object is, without what it holds."""
    thing = bare(thing)
    if is_plain(thing):
        return plain(thing)
    if isinstance(thing, types.MethodType):
        return thing.__func__.__qualname__
    if isinstance(thing, types.FunctionType):
        if "<" not in thing.__qualname__:  # it has a name of its own
            return thing.__qualname__
        return f"{thing.__qualname__} {code(thing.__code__)}"
    if isinstance(thing, types.BuiltinFunctionType):
        return thing.__qualname__
    if isinstance(thing, torch.nn.Module) and (shapes := [list(weight.shape) for weight in thing.parameters()]):
        count = sum(map(math.prod, shapes))
        return f"{type(thing).__qualname__}, {count:,} parameters, sha256 {code(json.dumps(shapes))}"
    name = type(thing).__qualname__
    return ALIKE.get(name, name)


def code(of: types.CodeType | str) -> str:
    """Enough of a sha256 to tell two functions without a name, or two texts, apart."""
    if isinstance(of, types.CodeType):
        of = repr((of.co_code.hex(), of.co_names, [constant(part) for part in of.co_consts]))
    return hashlib.sha256(of.encode()).hexdigest()[:12]


def constant(part: object) -> str:
    """A constant in a function's code; a set is sorted, because its order differs from process to process."""
    if isinstance(part, types.CodeType):
        return code(part)
    return repr(sorted(map(repr, part))) if isinstance(part, frozenset) else repr(part)
