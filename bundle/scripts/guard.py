"""The first steps of every run: refuse what can't be meant, keep two runs apart, say what is about to happen."""

import difflib
import inspect
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from pydoc import locate
from traceback import walk_tb

import torch
from filelock import FileLock, Timeout
from torch import nn

import monai.bundle
from monai.bundle import ConfigComponent, ConfigParser
from monai.transforms import Compose, RandomizableTrait
from monai.utils import instantiate
from scripts.checkpoint import is_main_process
from scripts.errors import UserError
from scripts.knobs import check
from scripts.memory import keep_freed
from scripts.skipping import reason, tracebacks

logger = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent.parent / "configs"
NO_PATCHES = ("metadata.json", "networks.json", "losses.json")  # their names are no ids of a run
LEFT_BEHIND_S = 3  # for so long the workers of a killed run may hold its lock
PLAIN = {"int": int, "float": (int, float), "bool": bool, "str": str}  # annotations that a value is held against
held: list = []  # the locks and the log file of the run in progress


def watch(debug: bool = False) -> None:
    """Refuses ids of the command line that nobody knows; from here on an error takes a few lines.

    Args:
        debug: whether an error prints its whole traceback; it is in the log file too, once that is open.
    """
    refuse_unknown_ids(sys.argv[1:])
    if sys.argv[1:2] == ["run"] and debug is not True:
        sys.excepthook = tell


def refuse(knobs: Sequence[dict]) -> None:
    """Checks type and range of the knobs.

    Args:
        knobs: values by name, in one or more parts.
    """
    for values in knobs:
        check(values)


def start(
    output_dir: str,
    log_name: str,
    network: nn.Module,
    spatial_size: Sequence[int],
    ckpt_dir: str | None = None,
    main_process: bool = True,
) -> None:
    """Asks the network for its input, locks the folders the run writes to, opens the log file.

    Args:
        output_dir: folder of everything the run writes but its checkpoints.
        log_name: name of the log file in it, without ending; two runs of one name can't share a folder.
        network: asked whether it can take `spatial_size`.
        spatial_size: size of the network's input.
        ckpt_dir: folder of the checkpoints, where the run writes any.
        main_process: False in all but one process of a distributed run; those neither lock nor log.
    """
    finish()  # what an earlier run in this process left, if an error ended it
    keep_freed()
    if hasattr(network, "check_size"):
        try:
            network.check_size(spatial_size)
        except ValueError as error:
            raise UserError(f"spatial_size: {error}") from error
    if not main_process:
        return
    claim(output_dir, log_name, "output_dir")
    if ckpt_dir is not None and Path(ckpt_dir).resolve() != Path(output_dir).resolve():
        claim(ckpt_dir, log_name, "ckpt_dir")
    file = logging.FileHandler(Path(output_dir) / f"{log_name}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for listener in (logging.getLogger(), tracebacks):
        listener.addHandler(file)
    held.append(file)
    logger.info("Research use only: not for diagnosis or treatment.")
    hint_at_company()


def hint_at_company() -> None:
    """Where others are at work on this machine, threads that spin while they wait slow a CPU run down many times."""
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > cores / 2 and "OMP_WAIT_POLICY" not in os.environ and not torch.cuda.is_available():
        logger.info(
            f"others are at work here (load {load:.1f} on {cores} cores): with OMP_WAIT_POLICY=PASSIVE in its "
            "environment the run may be many times faster"
        )


def tell(kind: type[BaseException], error: BaseException, trace) -> None:
    """An error that nobody foresaw, in three lines at most; the rest of it is for the log file."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped by Ctrl-C", file=sys.stderr)
        return
    file = next((part.baseFilename for part in held if isinstance(part, logging.FileHandler)), None)
    where = f"The traceback is in {file}; --debug True prints it." if file else "--debug True prints the traceback."
    for line in (reason(error), component_of(trace), where):
        if line:
            print(line, file=sys.stderr)


def component_of(trace) -> str:
    """The component whose making failed and its plain arguments; of these only what has the wrong type, if any has."""
    frames = [frame for frame, _ in walk_tb(trace) if frame.f_code is instantiate.__code__]
    component = frames[-1].f_locals.get("component") if frames else None
    if not inspect.isclass(component):
        return ""
    given = frames[-1].f_locals["kwargs"]
    annotations = {name: part.annotation for name, part in inspect.signature(component.__init__).parameters.items()}
    expected = {name: getattr(kind, "__name__", kind) for name, kind in annotations.items()}  # "int" or int
    wrong = [
        f"{name} is {value!r}, expected {expected[name]}"
        for name, value in given.items()
        if expected.get(name) in PLAIN and not isinstance(value, PLAIN[expected[name]])
    ]
    plain = [f"{name} {value!r}" for name, value in given.items() if isinstance(value, str | int | float | None)]
    return f"{component.__name__}: " + ("; ".join(wrong) or f"given {', '.join(plain)}")[:300]


def claim(folder: str, name: str, knob: str) -> None:
    """Locks a folder until the run ends, however it ends; another run of that name in it is refused."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / f".{name}.lock")
    try:
        lock.acquire(timeout=LEFT_BEHIND_S)
    except Timeout as error:
        raise UserError(
            f"{folder}: another {name} run is at work in it; wait for it or give another --{knob}"
        ) from error
    held.append(lock)


def finish() -> None:
    """Releases the locks and closes the log file; the end of the process does so too."""
    while held:
        part = held.pop()
        if isinstance(part, FileLock):
            part.release()
        else:
            for listener in (logging.getLogger(), tracebacks):
                listener.removeHandler(part)
            part.close()


def announce_cache(
    preprocessing: Compose, data: dict, splits: Sequence[str], cache_rate: float, keep_last: bool = False
) -> None:
    """Says what the cached cases will take in memory, measured on the first of them; training needs no others."""
    for split in splits:
        if not data[split] and not (split == "validation" and keep_last):
            hint = "; without any, say --keep_last True" if split == "validation" else ""
            raise UserError(f"no {split} cases in the datalist; expected one or more, of patients of their own{hint}")
    if not is_main_process():
        return
    deterministic = Compose(preprocessing.transforms[: preprocessing.get_index_of_first(is_random)])
    item = deterministic(data[splits[0]][0])
    size = sum(item[key].numel() * item[key].element_size() for key in ("image", "label"))
    count = sum(int(len(data[split]) * cache_rate) for split in splits)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    shapes = " x ".join(str(n) for n in item["image"].shape[1:])
    logger.info(
        f"cache: {count} cases of {shapes}, {size / 2**20:.1f} MiB each, {count * size / 2**30:.2f} GiB in all"
        + (f"; {free / 2**30:.1f} GiB are free" if free else "")
    )


def refuse_unknown_ids(arguments: Sequence[str]) -> None:
    """Refuses an override that no shipped configuration knows: MONAI itself would accept and ignore it.

    Args:
        arguments: a command line, without the program; checked only where it is one of `monai.bundle run`.
    """
    if "run" not in arguments[:1]:
        return
    own = set(inspect.signature(monai.bundle.run).parameters) - {"override"}
    given = [word.lstrip("-").split("=")[0].replace("-", "_") for word in arguments if word.startswith("-")]
    given = [word for word in given if word and not word[0].isdigit() and not word[0] == "."]
    for position, word in enumerate(arguments):
        if word.startswith("--args_file"):
            path = word.partition("=")[2] or next(iter(arguments[position + 1 :]), "")
            given += ConfigParser.load_config_file(path)
    known, components = known_ids()
    for name in given:
        plain = name.lstrip("+").replace("#", "::")
        if plain in own or plain in known or is_argument(plain, components):
            continue
        nearest = difflib.get_close_matches(plain, [*known, *own], n=1, cutoff=0)[0]
        raise UserError(f"--{name}: no configuration of this bundle knows this id; did you mean --{nearest}?")


def known_ids() -> tuple[set[str], dict[str, str]]:
    """Ids of all shipped configurations, deep ones spelt `a::b`, and the target of those that are components."""
    known: set[str] = set()
    components: dict[str, str] = {}

    def walk(node: object, name: str) -> None:
        if name:
            known.add(name)
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in children:
            if key == "_target_" and isinstance(child, str):
                components[name] = child
            walk(child, f"{name}::{key}" if name else str(key))

    for file in sorted(CONFIGS.glob("*.json")):
        if file.name not in NO_PATCHES:
            content = json.loads(file.read_text(encoding="utf-8"))
            walk({key.lstrip("+"): value for key, value in content.items()}, "")
    return known, components


def is_argument(name: str, components: dict[str, str]) -> bool:
    """Whether `a::b` names an argument that component `a` takes though no configuration sets it."""
    parent, _, argument = name.rpartition("::")
    if parent not in components:
        return False
    target = locate(ConfigComponent({"_target_": components[parent]}).resolve_module_name())
    return argument in inspect.signature(target).parameters


def is_random(transform: object) -> bool:
    return isinstance(transform, RandomizableTrait)
