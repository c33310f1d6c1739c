"""Tiny phantoms and tiny runs of the shipped configurations, shared by all tests."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on busy machines
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, as there is a test for each core

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import monai.bundle
import pytest
import torch
from matplotlib.figure import Figure
from monai.bundle import ConfigWorkflow

from scripts.core.errors import find_user_error
from scripts.phantoms import generate

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "bundle"
CONFIGS = BUNDLE / "configs"
EVALUATE = ["train.json", "evaluate.json"]
TINY = {"spatial_size": [32, 32, 16], "features": 4, "num_workers": 0, "cache_workers": 1, "calibrate": False}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors gain nothing from threads; a result does not depend on the machine's cores either."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def as_a_bundle_run_starts(monkeypatch):
    """No command line of pytest's for the guard to read, and the log level of logging.conf."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("ignite").setLevel(logging.WARNING)


@pytest.fixture
def in_the_bundle(monkeypatch):
    """Where the names of networks and losses are looked up, and MONAI's users run its other verbs."""
    monkeypatch.chdir(BUNDLE)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """Five patients with two scans each, in HipMRI's layout."""
    folder = tmp_path_factory.mktemp("phantoms")
    generate.generate(folder, patients=5, scans=2, size=(32, 32, 16), seed=0)
    return folder


OVERLAYS = ("scripts.inference.overlays.overlay", "scripts.report.tensorboard.overlay")
CHARTS = (
    "scripts.training.history.draw_progress",
    "scripts.report.charts.points",
    "scripts.report.charts.volumes",
    "scripts.report.charts.weeks",
    "scripts.report.run_charts.curves",
    "scripts.report.run_charts.differences",
    "scripts.report.doubt_charts.expected",
    "scripts.report.doubt_charts.probabilities",
)


def blank_overlay(image, label_maps, affine, class_names, file: Path | None = None, title: str = "") -> Figure:
    """In place of the picture of a case."""
    figure = Figure(figsize=(1, 1))
    if file:
        figure.savefig(file)
    return figure


@contextmanager
def blank_charts() -> Iterator[None]:
    """Nothing is drawn in here: to draw is half of the time of a tiny training, and more of that of an evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CHARTS:
            patch.setattr(name, lambda *_: "<svg></svg>")
        for name in OVERLAYS:
            patch.setattr(name, blank_overlay)
        yield


@pytest.fixture
def no_charts() -> Iterator[None]:
    """For a test that does not look at them."""
    with blank_charts():
        yield


class Workflow(ConfigWorkflow):
    """Raises the UserError that MONAI has wrapped into errors of its own, as the end of a command does.

    Its charts and overlays are blank, unless a test that looks at them sets `charts`.
    """

    charts = False

    def unwrapped(self, step: Callable):
        try:
            with nullcontext() if self.charts else blank_charts():
                return step()
        except Exception as error:
            known = find_user_error(error)
            if known is None:
                raise
            raise known from None

    def initialize(self):
        return self.unwrapped(super().initialize)

    def run(self):
        return self.unwrapped(super().run)

    def finalize(self):
        return self.unwrapped(super().finalize)


def workflow(kind: str, files: list[str], base: dict = TINY, charts: bool = False, **overrides) -> Workflow:
    """A shipped configuration, merged with its patches and made tiny, as `monai.bundle run` would make it."""
    paths = [str(CONFIGS / file) for file in files]
    given = {
        "bundle_root": str(BUNDLE),
        **base,
        **{key: str(v) if isinstance(v, Path) else v for key, v in overrides.items()},
    }
    run_id = {"train": "training", "evaluate": "evaluating", "infer": "inference"}[kind]
    if kind == "infer":
        given.setdefault("niivue", False)  # whatever is installed here
    made = Workflow(
        config_file=paths,
        workflow_type="infer" if kind == "infer" else "train",
        run_id=run_id,
        logging_file=False,
        **given,
    )
    made.charts = charts
    return made


def run(kind: str, files: list[str], **overrides) -> Workflow:
    made = workflow(kind, files, **overrides)
    made.initialize()
    made.run()
    made.finalize()
    return made


def read(name: str) -> dict:
    """A shipped configuration as it is written."""
    return json.loads((CONFIGS / name).read_text(encoding="utf-8"))


def segment(trained: Path, output_dir: Path, *patches: str, **overrides) -> None:
    """Inference on the test split of the trained fixture's own datalist."""
    paths = {"dataset_dir": trained / "datalist.json", "ckpt_dir": trained / "models", "output_dir": output_dir}
    run("infer", ["inference.json", *patches], **paths, **overrides)


@pytest.fixture(scope="session")
def trained(phantoms, tmp_path_factory) -> Path:
    """Two epochs of the shipped training; the folder holds its output and, below models/, its checkpoints.

    It is one for all tests: whoever writes into it asks for `trained_copy`.
    """
    folder = tmp_path_factory.mktemp("trained")
    paths = {"dataset_dir": phantoms, "output_dir": folder, "ckpt_dir": folder / "models"}
    run("train", ["train.json"], **paths, epochs=2, charts=True)
    return folder


@pytest.fixture
def trained_copy(trained, tmp_path) -> Path:
    """The same, for this test alone."""
    return shutil.copytree(trained, tmp_path / "trained")


# Files that take longest; they come first, so that no process ends long after the others.
LONG = (
    "plan/test_command.py",
    "training/test_survival.py",
    "benchmarks/test_gpu.py",
    "training/test_distributed.py",
    "training/test_start.py",
    "run/test_session.py",
    "study/test_study.py",
    "run/test_python_use.py",
    "ci/test_hub.py",
    "training/test_changed_settings.py",
    "configs/test_recipes.py",
    "configs/test_doubt.py",
    "report/test_page.py",
    "configs/test_resume.py",
    "networks/test_networks.py",
    "check/test_dataset.py",
    "check/test_corpus.py",
    "inference/test_skipping.py",
)


def as_bundle_command(*words: str) -> list[str]:
    """`sys.argv` of `python -m monai.bundle ...`."""
    return [str(Path(monai.bundle.__file__).with_name("__main__.py")), *words]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(f"{item.path.parent.name}/{item.path.name}", len(LONG)))
