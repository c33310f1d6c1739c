"""Functions that several benchmarks use: a clock, phantoms in a temporary folder, the shipped configurations."""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from monai.bundle import ConfigWorkflow

BUNDLE = Path(__file__).resolve().parent.parent / "bundle"
sys.path.insert(0, str(BUNDLE))


def present(word: str) -> Path:
    """A file or folder that the command line names."""
    if not Path(word).exists():
        raise argparse.ArgumentTypeError(f"{word}: no such file or folder; correct the path")
    return Path(word)


def with_folds(word: str) -> Path:
    """A folder of images with the list of its folds, which docs/hippocampus.md tells how to make."""
    if not (present(word) / "folds.json").is_file():
        raise argparse.ArgumentTypeError(
            f"{word}: found no folds.json; bundle/docs/hippocampus.md tells how to make it"
        )
    return Path(word)


def recipe(word: str) -> str:
    """The name of a file in configs/."""
    if not (BUNDLE / "configs" / f"{word}.json").is_file():
        known = ", ".join(sorted(file.stem for file in (BUNDLE / "configs").glob("recipe_*.json")))
        raise argparse.ArgumentTypeError(f"{word}: no such recipe, expected one of {known}")
    return word


def assignment(word: str) -> tuple[str, str]:
    """An override, NAME=VALUE."""
    name, sign, value = word.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{word}: expected NAME=VALUE")
    return name, value


def processor() -> str:
    """The name of the processor, and whether it computes in bfloat16, or is held to older instructions."""
    from scripts.core.hardware import OLDER, supports_bfloat16

    found = torch.cpu.get_capabilities()
    name = found.get("cpu_name", "unknown processor")
    if found.get("avx512_f") and (used := torch.backends.cpu.get_cpu_capability()) in OLDER:
        return f"{name}, held to {used}"
    return f"{name}, with{'' if supports_bfloat16('cpu') else 'out'} AVX-512 BF16"


def note_processor(folder: Path) -> None:
    """Adds this machine's processor to those that have worked on a folder's results."""
    file = folder / "processors.txt"
    file.write_text("\n".join(dict.fromkeys([*noted_processors(folder), processor()])) + "\n")


def noted_processors(folder: Path) -> list[str]:
    file = folder / "processors.txt"
    return file.read_text().splitlines() if file.is_file() else []


def seconds(call: Callable, repeats: int) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times)


def now() -> tuple[float, float]:
    """Seconds by the clock, and processor seconds of this process and of the processes that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)


def since(began: tuple[float, float]) -> tuple[float, float]:
    """Seconds from a `now`, of both kinds."""
    clock, worked = now()
    return clock - began[0], worked - began[1]


def inference(data: Path, models: Path, out: Path, *patches: str, **overrides) -> ConfigWorkflow:
    """An inference workflow without pictures. All its parts are created; only the run itself is left."""
    made = ConfigWorkflow(
        [str(BUNDLE / "configs" / file) for file in ("inference.json", *patches)],
        workflow_type="infer",
        run_id="inference",
        logging_file=False,
        bundle_root=str(BUNDLE),
        dataset_dir=str(data),
        ckpt_dir=str(models),
        output_dir=str(out),
        pictures=False,
        **overrides,
    )
    made.initialize()
    made.parser.get_parsed_content("evaluator")
    return made


def workflow(files: list[str], **overrides) -> ConfigWorkflow:
    """An initialised training workflow of configurations by name. It runs in no folder of its own: `%configs/...` in an
    override is that of the bundle."""
    there = {
        k: v.replace("%configs/", f"%{BUNDLE}/configs/") if isinstance(v, str) else v for k, v in overrides.items()
    }
    made = ConfigWorkflow(
        [str(BUNDLE / "configs" / f"{file}.json") for file in files],
        workflow_type="train",
        run_id="training",
        logging_file=False,
        bundle_root=str(BUNDLE),
        **there,
    )
    made.initialize()
    return made


@contextmanager
def training(files: list[str], patients: int, scans: int, size: tuple, **overrides) -> Iterator[ConfigWorkflow]:
    """An initialised training workflow on new phantoms. All its files are deleted at the end of the context."""
    from scripts.phantoms import generate

    with tempfile.TemporaryDirectory() as folder:
        generate.generate(f"{folder}/data", patients=patients, scans=scans, size=size, seed=0)
        paths = {"dataset_dir": f"{folder}/data", "output_dir": f"{folder}/output", "ckpt_dir": f"{folder}/models"}
        made = ConfigWorkflow(
            config_file=[str(BUNDLE / "configs" / file) for file in files],
            workflow_type="train",
            run_id="training",
            bundle_root=str(BUNDLE),
            **paths,
            **overrides,
        )
        made.initialize()
        yield made
        made.finalize()
