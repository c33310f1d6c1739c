"""Inference in several processes gives the files of one process, whatever dies meanwhile, and however many go on."""

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import TINY, run
from helpers import refusal
from launcher import launch, torchrun

from scripts.core.errors import UserError
from scripts.data.layouts import find_images

pytestmark = pytest.mark.programs

FILES = ["inference.json", "multi_gpu_inference.json"]
BAD = "Case_050_Week0_LFOV.nii.gz"


def copies(images: list[Path], folder: Path, count: int) -> Path:
    """Many cases made of a few, which differ in a voxel."""
    folder.mkdir()
    for number in range(count):
        image = nib.load(images[number % len(images)])
        values = np.asarray(image.dataobj).copy()
        values[number % 8, number // 8 % 8, 0] += 50
        nib.save(nib.Nifti1Image(values, image.affine, image.header), folder / f"Case_{number:03d}_Week1.nii.gz")
    return folder


def given(data: Path, trained: Path, out: Path, **more) -> dict:
    paths = {"dataset_dir": data, "ckpt_dir": trained / "models", "output_dir": out}
    tiny = {name: TINY[name] for name in ("spatial_size", "features", "num_workers")}  # the others are of a training
    return {**tiny, "pictures": False, **paths, **more}


def infer(data: Path, trained: Path, out: Path, status: str = "", **more) -> None:
    """In this process alone."""
    context = pytest.raises(UserError, match=status) if status else contextlib.nullcontext()
    with context:
        run("infer", FILES[:1], **given(data, trained, out, **more))


def cases(out: Path) -> list[dict]:
    found = json.loads((out / "run.json").read_text())["cases"]
    return [{key: value for key, value in case.items() if key != "seconds"} for case in found]


def assert_equal_results(one: Path, other: Path) -> None:
    """Every voxel, every volume, every word on every case, and no file more."""
    names = {path.name for path in one.iterdir()}
    assert {path.name for path in other.iterdir()} == names
    for name in sorted(name for name in names if name.endswith("_seg.nii.gz")):
        a, b = nib.load(one / name), nib.load(other / name)
        assert np.array_equal(a.dataobj, b.dataobj) and a.header == b.header, name
    for name in ("volumes.csv", "metrics.csv"):
        assert (one / name).read_text() == (other / name).read_text()
    assert cases(one) == cases(other)


@pytest.mark.parametrize(
    "nodes, processes", [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(2, 2, marks=pytest.mark.slow)]
)
def test_several_processes_are_as_good_as_one(nodes, processes, phantoms, trained, tmp_path):
    """One case is bad. It is named, the others are done, each by one process; one process finishes what is left."""
    data = copies(find_images(phantoms)[:4], tmp_path / "data", 6)
    (data / BAD).write_bytes(b"no image")
    infer(data, trained, tmp_path / "one", status="1 of 7 cases failed")
    printed = torchrun("inference", FILES, processes, nodes, status=1, **given(data, trained, tmp_path / "many"))
    assert len(re.findall(rf"{BAD}.*; skipped", printed)) == 1  # named by one process only
    assert len(re.findall("1 of 7 cases failed", printed)) == 1
    assert_equal_results(tmp_path / "one", tmp_path / "many")
    (data / BAD).write_bytes((data / "Case_000_Week1.nii.gz").read_bytes())
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "many").glob("*_seg.nii.gz")}
    for out in ("one", "many"):
        infer(data, trained, tmp_path / out, resume=True)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "many").glob("*_seg.nii.gz")}
    assert len(after) == 7 and {name: after[name] for name in before} == before
    assert_equal_results(tmp_path / "one", tmp_path / "many")


def lines(out: Path) -> list[int]:
    """How many cases each process has noted."""
    return [len(file.read_text().splitlines()) for file in sorted((out / ".run").glob("*.jsonl"))]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["first", "second", "launcher"])
def test_a_killed_process_costs_no_finished_case(target, phantoms, trained, tmp_path):
    """SIGKILL to one of two processes, or to torchrun itself; then three processes do the rest."""
    data = copies(find_images(phantoms)[:4], tmp_path / "data", 48)
    infer(data, trained, tmp_path / "one")
    out = tmp_path / "many"
    (launcher,) = launch("inference", FILES, 2, **given(data, trained, out))
    workers: list[int] = []
    try:
        deadline = time.monotonic() + 600
        while len(lines(out)) < 2 or min(lines(out)) < 1 or sum(lines(out)) < 6:
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        workers = [int(worker) for worker in children]
        assert len(workers) == 2
        os.kill({"first": workers[0], "second": workers[1], "launcher": launcher.pid}[target], signal.SIGKILL)
        launcher.communicate(timeout=600)
    finally:
        for process in workers if target == "launcher" else []:  # nobody is left to end them
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    assert launcher.returncode != 0
    while any(Path(f"/proc/{worker}/exe").exists() for worker in workers):
        time.sleep(0.05)
    finished = sorted(out.glob("*_seg.nii.gz"))
    assert 6 <= len(finished) < 48
    for file in finished:  # complete, and as they should be
        assert np.array_equal(nib.load(file).dataobj, nib.load(tmp_path / "one" / file.name).dataobj)
    noted = {json.loads(line)["output"] for part in (out / ".run").iterdir() for line in part.read_text().splitlines()
             if line.endswith("}")}  # fmt: skip
    assert noted <= {file.name for file in finished} and len(noted) >= len(finished) - 2
    before = {file.name: file.stat().st_mtime_ns for file in finished if file.name in noted}
    torchrun("inference", FILES, 3, **given(data, trained, out, resume=True))
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert_equal_results(tmp_path / "one", out)


def test_processes_that_do_not_know_of_each_other_are_refused(phantoms, trained, tmp_path, monkeypatch):
    """As torchrun starts them where the patch was forgotten."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = refusal(infer, phantoms, trained, tmp_path)
    assert "one of 2 processes" in message and "configs/multi_gpu_inference.json" in message
    assert not any(tmp_path.iterdir())
