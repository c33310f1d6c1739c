"""Several processes under torchrun, without a GPU, against one: same data, same numbers, no case counted twice."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import BUNDLE, ROOT, TINY, run
from helpers import measured, rows
from launcher import command_line, torchrun

from scripts.data import datalist
from scripts.training.checkpoint_files import read_checkpoint

sys.path.insert(0, str(ROOT / "benchmarks"))

import kill_training as experiments

pytestmark = pytest.mark.programs

SAME_STEPS = {"rotate_range": 0.0, "noise_std": 0.0, "flip_probability": 0.0, "dropout": 0.0, "epochs": 2}
TRAIN, EVALUATE = ["train.json"], ["train.json", "evaluate.json"]


@pytest.fixture(scope="module")
def data(phantoms, tmp_path_factory) -> dict:
    """Two cases to train on, three to validate and to test; and the steps that do not depend on the process."""
    root = tmp_path_factory.mktemp("distributed")
    content = datalist.make_datalist(str(phantoms), validation=0.4, test=0.4)
    for split, count in (("training", 2), ("validation", 3), ("test", 3)):
        content[split] = content[split][:count]
    datalist.write_datalist(content, root / "list.json")
    return {**TINY, **SAME_STEPS, "dataset_dir": phantoms, "datalist": root / "list.json"}


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Path:
    """Training and evaluation in one process."""
    folder = tmp_path_factory.mktemp("alone")
    run("train", TRAIN, batch_size=2, output_dir=folder, ckpt_dir=folder, **data)
    run("evaluate", EVALUATE, output_dir=folder, ckpt_dir=folder, **data)
    return folder


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["one node", "two nodes"])
def together(request, data, tmp_path_factory) -> Path:
    """The same in two processes: on one machine, and as if each had a machine of its own."""
    folder, nodes = tmp_path_factory.mktemp("together"), request.param
    given = {"processes": 2 // nodes, "nodes": nodes, "output_dir": folder, "ckpt_dir": folder, **data}
    torchrun("training", [*TRAIN, "multi_gpu_train.json"], batch_size=1, **given)
    torchrun("evaluating", [*EVALUATE, "multi_gpu_evaluate.json"], **given)
    return folder


def test_training_follows_the_same_curve(alone, together):
    one, two = rows(alone / "history.csv"), rows(together / "history.csv")
    assert len(one) == len(two) == SAME_STEPS["epochs"]
    for a, b in zip(one, two):
        for key in a:
            if key != "seconds":
                assert float(a[key]) == pytest.approx(float(b[key]), abs=2e-3), key


def test_every_case_is_scored_once_and_alike(alone, together):
    one, two = (measured(folder / "metrics.csv") for folder in (alone, together))
    assert list(one) == list(two) and len(one) == 3
    for case in one:
        assert one[case] == pytest.approx(two[case], abs=5e-3), case


def stopped(folder: Path, target: str, number: signal.Signals, **overrides) -> tuple[str, str]:
    """Signals a training run in its second epoch; the last line of its log and what it has printed."""
    command = command_line("training", [*TRAIN, "multi_gpu_train.json"], epochs=500, **overrides)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    launcher = subprocess.Popen(command, cwd=BUNDLE, **piped)
    try:
        log, deadline = folder / "training.log", time.monotonic() + 600
        while not (log.is_file() and "epoch 1/500" in log.read_text()):
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        workers = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        assert len(workers) == 2
        if target == "group":  # as Ctrl-C in a terminal
            os.killpg(launcher.pid, number)
        else:
            os.kill({"launcher": launcher.pid, "first": int(workers[0]), "second": int(workers[1])}[target], number)
        printed, _ = launcher.communicate(timeout=600)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    assert launcher.returncode != 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    return log.read_text().splitlines()[-1], printed


SLOW = pytest.mark.slow
SIGNALS = [
    ("second", signal.SIGTERM),
    pytest.param("first", signal.SIGINT, marks=SLOW),
    pytest.param("launcher", signal.SIGTERM, marks=SLOW),
    pytest.param("group", signal.SIGINT, marks=SLOW),
]


@pytest.mark.parametrize("target, number", SIGNALS)
def test_processes_leave_together(target, number, phantoms, tmp_path):
    """Be it that one of them was asked to; torchrun tells a status that is not 0, and kills after 30 s."""
    paths = {"dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path / "models"}
    line, printed = stopped(tmp_path, target, number, batch_size=1, **{**TINY, **paths})
    assert f"stopped by {number.name}" in line and "--resume True" in line
    assert "SIGKILL" not in printed and "terminate called" not in printed and "closed by peer" not in printed
    if target in ("first", "second"):
        assert set(re.findall(r"exitcode +: (-?\d+)", printed)) == {str(128 + number)}
    last = tmp_path / "models" / "last.pt"
    saved = read_checkpoint(last)["epoch"]
    assert f"epoch {saved} is saved" in line


@pytest.mark.slow
@pytest.mark.parametrize("target", ["second", "launcher"])
def test_processes_go_on_as_if_never_stopped(target, phantoms, tmp_path):
    common = {**TINY, "batch_size": 1, "dataset_dir": phantoms, "datalist": tmp_path / "datalist.json"}
    paths = {
        name: {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name / "models"} for name in ("whole", "broken")
    }
    stopped(tmp_path / "broken", target, signal.SIGTERM, **common, **paths["broken"])
    epochs = read_checkpoint(tmp_path / "broken" / "models" / "last.pt")["epoch"] + 1
    files = [*TRAIN, "multi_gpu_train.json"]
    torchrun("training", files, epochs=epochs, resume=True, **common, **paths["broken"])
    torchrun("training", files, epochs=epochs, **common, **paths["whole"])
    assert experiments.differences(tmp_path / "whole", tmp_path / "broken") == []


@pytest.mark.slow
def test_two_processes_start_from_given_weights_and_freeze_the_encoder_as_one_does(data, tmp_path):
    """The same copied weights in both, the same score before epoch 1, an encoder that no gradient has moved."""
    run("train", TRAIN, output_dir=tmp_path / "start", ckpt_dir=tmp_path / "start", **data)
    common = {**data, "pretrained": tmp_path / "start" / "model.pt"}
    paths = {name: {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name} for name in ("one", "two")}
    files = [*TRAIN, "finetune.json"]
    run("train", files, batch_size=2, **common, **paths["one"], frozen_epochs=2)
    torchrun("training", [*files, "multi_gpu_train.json"], batch_size=1, **common, **paths["two"], frozen_epochs=2)
    one, two = (rows(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert [row["epoch"] for row in one] == [row["epoch"] for row in two] == ["0", "1", "2"]
    for a, b in zip(one, two):
        assert float(a["val_mean_dice"]) == pytest.approx(float(b["val_mean_dice"]), abs=2e-3)
    before = read_checkpoint(common["pretrained"])
    for name in ("one", "two"):
        after = read_checkpoint(tmp_path / name / "last.pt")["model"]
        assert after.keys() == before.keys()
        for tensor, value in after.items():
            assert torch.equal(value, before[tensor]) is tensor.startswith("encoder."), tensor
