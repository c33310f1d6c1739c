"""What objects are made of, as plain values by name, so that two runs can be compared.

The description follows from the objects themselves: every attribute counts, unless it is in one of the short lists
below. It is the same in every process that builds the objects alike, and differs where a setting differs. So it holds
no memory addresses, no random states and nothing that changes while a run works.
"""

import hashlib
import io
import json
import logging
import random
import threading
import types
import weakref
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import ImageReader
from monai.data.folder_layout import FolderLayoutBase
from monai.inferers import Inferer
from monai.transforms import Transform
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

from scripts.core.kinds import bare, has_content, is_plain, kind, plain

LEFT_OUT = {  # attributes that do not shape a training, or that change during one
    torch.nn.Module: "training checkpointing",  # checkpointing saves memory and changes no number
    torch.optim.Optimizer: "state param_groups",  # the groups are described without their weights
    LRScheduler: "last_epoch _step_count _last_lr _get_lr_called_within_step _is_initial verbose",
    Engine: "state scaler should_terminate should_terminate_single_epoch should_interrupt last_event_name",
    # how the data are loaded, not which; the cases are compared by their names
    Dataset: "data num_workers progress cache_num set_num set_rate cache_dir hash_func runtime_cache copy_cache",
    DataLoader: "num_workers prefetch_factor pin_memory pin_memory_device timeout persistent_workers worker_init_fn "
    "multiprocessing_context generator in_order",
    Sampler: "rank epoch data_source generator",
    FolderLayoutBase: "output_dir",  # however it is spelled
    Inferer: "ckpt_dir file folder",  # where networks are kept that are made from the weights
    ImageReader: "filenames",  # of the case that was read last
    Transform: "_tracing _do_transform _cached_grid _over",  # notes of the last call, and of the epoch
}
PRIVATE_LEFT_OUT = (torch.nn.Module, torch.optim.Optimizer, Engine, Dataset, DataLoader)  # all their `_names`
OPAQUE = (  # of these only the fact counts that they are there
    torch.device, torch.Generator, np.random.RandomState, np.random.Generator, np.random.BitGenerator, random.Random,
    logging.Logger, threading.local, weakref.ReferenceType, io.IOBase, types.GeneratorType, types.ModuleType,
)  # fmt: skip
WATCHERS = ("ProgressBar", "StatsHandler", "SummaryWriter")  # classes that only show what a run does
FRAMEWORKS = ("monai.", "ignite.")


def describe(parts: Mapping[str, object]) -> dict[str, object]:
    """Plain values by name, such as {"loss": "DiceLoss", "loss::smooth_nr": 1e-05}.

    Args:
        parts: the objects to describe, by name. One that is found inside another is only named there.
    """
    walker = Walker(parts)
    for name, thing in parts.items():
        walker.walk(name, thing, is_part=True)
    return walker.found


def settings_text(thing: object) -> str:
    """Any object as one text: equal for objects that are made alike, in this process or another."""
    return json.dumps(describe({"": thing}), sort_keys=True)


def is_watcher(thing: object) -> bool:
    """Whether an object only shows or records what a run does, such as a progress bar or TensorBoard's writer."""
    kinds = {base.__name__ for base in type(thing).__mro__}
    held = vars(thing).values() if hasattr(thing, "__dict__") and not isinstance(thing, type) else ()
    return bool(kinds & set(WATCHERS)) or any(type(value).__name__ in WATCHERS for value in held)


def attributes(thing: object) -> dict[str, object]:
    """The attributes of an object that count."""
    found = dict(vars(thing)) if hasattr(thing, "__dict__") else {}
    for base in type(thing).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                found[name] = getattr(thing, name)
    dropped = {name for base, names in LEFT_OUT.items() if isinstance(thing, base) for name in names.split()}
    private = isinstance(thing, PRIVATE_LEFT_OUT)
    return {name: value for name, value in found.items() if name not in dropped and not (private and name[0] == "_")}


class Walker:
    """Follows the attributes of objects and notes what it finds.

    Args:
        parts: the objects to describe, by name.
    """

    def __init__(self, parts: Mapping[str, object]):
        self.parts = {id(bare(thing)): name for name, thing in reversed([*parts.items()]) if not is_plain(thing)}
        self.found: dict[str, object] = {}
        self.above: list[int] = []  # the objects that the present one is inside of: a circle ends there
        networks = [bare(thing) for thing in parts.values() if isinstance(thing, torch.nn.Module)]
        networks += [
            bare(thing.network) for thing in parts.values() if isinstance(thing, Engine) and has_network(thing)
        ]
        networks += [thing.ema_model for thing in parts.values() if hasattr(thing, "ema_model")]
        self.trained = {
            id(tensor)
            for network in networks
            if isinstance(network, torch.nn.Module) and any(True for _ in network.parameters())
            for tensor in network.state_dict(keep_vars=True).values()
        }

    def walk(self, name: str, thing: object, is_part: bool = False) -> None:
        thing = bare(thing)
        if is_plain(thing):
            self.found[name] = plain(thing)
        elif id(thing) in self.above:
            self.found[name] = "(see above)"
        elif not is_part and id(thing) in self.parts:
            self.found[name] = f"(see {self.parts[id(thing)]})"
        elif isinstance(thing, torch.Tensor):
            self.found[name] = self.tensor(thing)
        elif isinstance(thing, np.ndarray):
            content = hashlib.sha256(np.ascontiguousarray(thing).tobytes()).hexdigest()[:12]
            self.found[name] = f"array {list(thing.shape)} {thing.dtype}, sha256 {content}"
        elif isinstance(thing, OPAQUE) or is_watcher(thing):
            self.found[name] = type(thing).__qualname__
        else:
            self.above.append(id(thing))
            self.inside(name, thing)
            self.above.pop()

    def inside(self, name: str, thing: object) -> None:
        """Notes the kind of a compound object, and walks through what it holds."""
        if isinstance(thing, list | tuple | set | frozenset):
            items = sorted(thing, key=lambda item: str(kind(item))) if isinstance(thing, set | frozenset) else thing
            items = [item for item in items if not is_watcher(item)]
            self.found[name] = [kind(item) for item in items]
            self.members(name, {str(number): item for number, item in enumerate(items)})
        elif isinstance(thing, Mapping):
            self.members(name, {str(key): value for key, value in thing.items()})
        elif isinstance(thing, partial):
            self.found[name] = "partial"
            self.members(name, {"func": thing.func, "args": thing.args, "keywords": thing.keywords})
        elif isinstance(thing, types.MethodType):
            self.found[name] = thing.__func__.__qualname__
            self.members(name, {"of": thing.__self__})
        elif isinstance(thing, types.FunctionType):
            self.found[name] = kind(thing)
            cells = zip(thing.__code__.co_freevars, thing.__closure__ or ())
            held = {free: cell.cell_contents for free, cell in cells if has_content(cell)} | referred(thing)
            self.members(name, held | ({"defaults": thing.__defaults__} if thing.__defaults__ else {}))
        else:
            self.found[name] = kind(thing)
            self.members(name, attributes(thing) | further(thing))
            if isinstance(thing, Engine):
                self.handlers(name, thing)

    def members(self, name: str, held: Mapping[str, object]) -> None:
        for key in sorted(held):
            if not is_watcher(held[key]):
                self.walk(f"{name}::{key}" if name else key, held[key])

    def handlers(self, name: str, engine: Engine) -> None:
        """What is attached to an engine: which handler at which event, in this order, and each handler once."""
        order: list[str] = []
        owners: dict[int, object] = {}
        for event in sorted(engine._event_handlers, key=str):
            for call, given, _ in engine._event_handlers[event]:
                call, event_filter = without_wrapper(call)
                owner = call.__self__ if isinstance(call, types.MethodType) else call
                outside = isinstance(owner, types.FunctionType) and not owner.__module__.startswith(FRAMEWORKS)
                if outside or is_watcher(owner) or any(map(is_watcher, given)):
                    continue  # a function of other code can't come from a configuration, which lists objects
                when = f" if {settings_text(event_filter)}" if event_filter else ""
                order.append(f"{event}{when}: {kind(owner)}")
                owners.setdefault(id(owner), owner)
        self.found[f"{name}::events"] = order
        counts: dict[object, int] = {}
        for owner in owners.values():
            label = kind(owner)
            counts[label] = counts.get(label, 0) + 1
            self.walk(f"{name}::{label}" + (f" {counts[label]}" if counts[label] > 1 else ""), owner)

    def tensor(self, thing: torch.Tensor) -> str:
        """Shape and type; the content as well, unless training changes it."""
        shape = f"tensor {list(thing.shape)} {thing.dtype}"
        if isinstance(thing, torch.nn.Parameter) or id(thing) in self.trained or thing.layout != torch.strided:
            return shape
        data = thing.detach().as_subclass(torch.Tensor).cpu().contiguous().reshape(-1).view(torch.uint8)
        return f"{shape}, sha256 {hashlib.sha256(data.numpy().tobytes()).hexdigest()[:12]}"


def referred(thing: types.FunctionType) -> dict[str, object]:
    """What a function that stands in a configuration, as `$lambda x: x[@channels]`, refers to. MONAI keeps these values
    among the globals of the function, by their ids."""
    values = thing.__globals__.get("__local_refs", {})
    todo, names = [thing.__code__], set()
    while todo:
        for part in todo.pop().co_consts:
            if isinstance(part, types.CodeType):
                todo.append(part)
            elif isinstance(part, str):
                names.add(part)
    return {name: values[name] for name in names if name in values}


def has_network(engine: Engine) -> bool:
    return isinstance(getattr(engine, "network", None), torch.nn.Module)


def without_wrapper(call: Callable) -> tuple[Callable, Callable | None]:
    """A handler and the filter of its event, out of the function that ignite puts around the two."""
    names = call.__code__.co_freevars if isinstance(call, types.FunctionType) else ()
    if not {"event_filter", "handler"} <= set(names):
        return call, None
    cells = dict(zip(names, call.__closure__ or ()))
    return cells["handler"].cell_contents, cells["event_filter"].cell_contents


def further(thing: object) -> dict[str, object]:
    """What counts of an object beside its attributes."""
    if isinstance(thing, torch.nn.Module):
        return {**thing._parameters, **thing._buffers, **thing._modules}
    if isinstance(thing, torch.optim.Optimizer):
        groups = [{key: value for key, value in group.items() if key != "params"} for group in thing.param_groups]
        return {"param_groups": groups}
    if isinstance(thing, Dataset) and hasattr(thing, "__len__"):
        return {"len": len(thing)}
    return {}
