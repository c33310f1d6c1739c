"""What a training run survives: kills, signals, a full disk, flipped bits, bad numbers, hostile files."""

import functools
import io
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import BUNDLE, ROOT, TINY, blank_charts, run, workflow
from helpers import refusal, rows
from ignite.engine import Events

from scripts.data import datalist
from scripts.training import interruption
from scripts.training.checkpoint_files import read_checkpoint, sha256, write_checkpoint
from scripts.training.weights import read_weights
from scripts.training.weights_info import info_file

sys.path.insert(0, str(ROOT / "benchmarks"))

import kill_training as experiments

pytestmark = pytest.mark.programs

TRAIN = ["train.json"]


def given(folder, phantoms, **overrides) -> dict:
    """A run with everything in one folder."""
    paths = {"dataset_dir": phantoms, "output_dir": folder, "ckpt_dir": folder / "models"}
    return {**paths, "datalist": folder.parent / "datalist.json", "epochs": 2, **overrides}


@pytest.fixture(scope="module")
def unbroken(phantoms, tmp_path_factory):
    """Two epochs that nobody disturbs."""
    folder = tmp_path_factory.mktemp("unbroken") / "whole"
    run("train", TRAIN, **given(folder, phantoms))
    return folder


def prepared(kind: str, **overrides):
    """A workflow, its trainer, and an `end` that a test may call: training is about to begin."""
    made = workflow(kind, TRAIN, **overrides)
    made.initialize()
    return made, made.parser.get_parsed_content("train::trainer")


# kills


def survive(kills: int, workers: int, epochs: int, folder: Path, phantoms) -> None:
    common = {"dataset_dir": str(phantoms), "datalist": str(folder / "datalist.json"), "num_workers": workers}
    common["calibrate"] = False
    began = time.perf_counter()
    experiments.train_through(folder / "whole", epochs=epochs, **common)
    span = time.perf_counter() - began
    for attempt in range(5):  # where the machine is idle by now, the run may be over before its first kill
        broken, longest = folder / f"broken{attempt}", span * 0.7 / 2**attempt
        if experiments.killed_and_resumed(broken, kills, longest, seed=1, epochs=epochs, **common):
            break
    else:
        pytest.fail("no kill hit a run at work")
    assert experiments.differences(folder / "whole", broken) == []
    curves = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(place / "history.csv")]
        for place in (folder / "whole", broken)
    ]
    assert curves[0] == curves[1] and len(curves[0]) == epochs


@pytest.mark.parametrize("workers, kills", [(0, 2), (2, 2)])
def test_a_killed_run_ends_as_an_unbroken_one(workers, kills, phantoms, tmp_path):
    with blank_charts():  # a kill seldom meets them then, but an epoch or a save
        survive(kills, workers, 3, tmp_path, phantoms)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_survives_many_kills(workers, phantoms, tmp_path):
    survive(20, workers, 16, tmp_path, phantoms)


def test_a_difference_would_be_seen(unbroken, tmp_path):
    """The comparison of the tests above, on runs that differ in one number, in one key, and in times only."""
    shutil.copytree(unbroken / "models", tmp_path / "models")
    assert experiments.differences(unbroken, tmp_path) == []
    saved = read_checkpoint(tmp_path / "models" / "last.pt")
    saved["history"]["rows"][0]["seconds"] += 1
    write_checkpoint(saved, tmp_path / "models" / "last.pt")
    assert experiments.differences(unbroken, tmp_path) == []
    next(iter(saved["optimizer"]["state"].values()))["exp_avg"].view(-1)[0] += 1e-6
    saved["early_stop"]["counter"] += 1
    write_checkpoint(saved, tmp_path / "models" / "last.pt")
    found = experiments.differences(unbroken, tmp_path)
    assert len(found) == 2 and "exp_avg" in found[0] + found[1] and "counter" in found[0] + found[1]


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_kill_inside_saving_leaves_a_whole_state(kills, tmp_path):
    assert experiments.kills_while_saving(tmp_path, kills, seed=kills, longest=0.05) == kills


@pytest.mark.parametrize("kind", ["fsync", "replace", "unlink"])
def test_a_kill_between_any_two_steps_of_saving_leaves_a_whole_state(kind, tmp_path, monkeypatch):
    """Not at random: the process is gone before the first, second, ... call of its kind, and never cleans up."""

    def count_down(call, calls):
        def counted(*args, **kwargs):
            if calls[0] == 0:
                os._exit(1)
            calls[0] -= 1
            return call(*args, **kwargs)

        return counted

    real = getattr(os, kind)
    for step in range(40):
        for epoch in (1, 2):
            experiments.save(tmp_path, epoch, 100)
        if (child := os.fork()) == 0:
            setattr(os, kind, count_down(real, [step]))
            experiments.save(tmp_path, 3, 100)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert experiments.holds(tmp_path, 2), step
        if status == 0:
            break
    assert step > 3 and status == 0


# signals


@pytest.mark.parametrize(
    "where, number, command, ended, code",
    [
        ("iteration", signal.SIGTERM, True, SystemExit, 143),
        ("validation", signal.SIGTERM, True, SystemExit, 143),
        ("saving", signal.SIGTERM, True, SystemExit, 143),
        ("first epoch", signal.SIGTERM, True, SystemExit, 143),
        ("first epoch", signal.SIGINT, True, SystemExit, 130),
        ("validation", signal.SIGINT, False, KeyboardInterrupt, None),
        ("first epoch", signal.SIGINT, False, KeyboardInterrupt, None),
    ],
)
def test_a_signal_ends_the_run_in_order(
    where, number, command, ended, code, unbroken, phantoms, tmp_path, caplog, monkeypatch
):
    """After the iteration, or after the save, with the customary code; the resumed run is none the worse.

    A program that runs the training from Python gets Ctrl-C as the exception that Python has for it. Where a signal
    is noticed does not depend on its number, so one of them comes everywhere.
    """
    overrides = given(tmp_path / "run", phantoms, datalist=unbroken.parent / "datalist.json")
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    made, trainer = prepared("train", **overrides)
    iterations = []
    target = 1 if where == "first epoch" else 2

    sent = []

    def send(*_):
        if trainer.state.epoch == target and not sent:
            sent.append(os.kill(os.getpid(), number))

    if where == "saving":
        real = torch.save
        monkeypatch.setattr(torch, "save", lambda *args: (send(), real(*args))[1])
    elif where == "validation":
        made.parser.get_parsed_content("validate::evaluator").add_event_handler(Events.ITERATION_STARTED, send)
    else:
        trainer.add_event_handler(Events.ITERATION_STARTED(once=2 if target == 1 else 5), send)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: iterations.append(trainer.state.iteration))
    monkeypatch.setattr(interruption, "is_bundle_command", lambda: command)
    with pytest.raises(ended) as caught:
        made.run()
    monkeypatch.undo()
    made.finalize()
    assert getattr(caught.value, "code", None) == code
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert iterations == list(range(1, {"first epoch": 2, "iteration": 5}.get(where, 6) + 1))
    (line,) = [message for message in caplog.messages if message.startswith("stopped by")]
    assert signal.Signals(number).name in line and len(line.splitlines()) == 1
    last = tmp_path / "run" / "models" / "last.pt"
    if where == "first epoch":
        assert "in epoch 1: no epoch was complete, so nothing is saved" in line and not last.exists()
    else:
        saved = 2 if where == "saving" else 1
        assert f"{'after' if where == 'saving' else 'in'} epoch 2: epoch {saved} is saved in {last.parent}" in line
        assert "--resume True" in line and read_checkpoint(last)["epoch"] == saved
    assert not [r for r in caplog.records if r.name.startswith("ignite") and r.levelno >= logging.WARNING]
    if number == signal.SIGTERM:
        run("train", TRAIN, **overrides, resume=True)
        assert experiments.differences(unbroken, tmp_path / "run") == []


def test_a_second_interrupt_does_not_wait(phantoms, tmp_path):
    made, trainer = prepared("train", **given(tmp_path / "run", phantoms))
    reached = []

    @trainer.on(Events.ITERATION_STARTED)
    def twice(_):
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("second")

    with pytest.raises(KeyboardInterrupt):
        made.run()
    made.finalize()
    assert reached == ["first"]


def test_the_command_line_ends_with_the_customary_codes(phantoms, tmp_path):
    """From outside, with workers: SIGTERM to the process, as a scheduler does, and Ctrl-C to its whole group."""
    started = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        folder = tmp_path / number.name
        overrides = {**TINY, **given(folder, phantoms, epochs=500, num_workers=1, datalist=folder / "datalist.json")}
        words = [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
        command = [
            sys.executable,
            "-m",
            "monai.bundle",
            "run",
            "training",
            "--config_file",
            "configs/train.json",
            *words,
        ]
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        started[number] = subprocess.Popen(command, cwd=BUNDLE, **piped)
    for number, process in started.items():
        log, deadline = tmp_path / number.name / "training.log", time.monotonic() + 600
        while not (log.is_file() and "epoch 1/500" in log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    for number, process in started.items():
        out, err = process.communicate(timeout=600)
        assert process.returncode == 128 + number, out + err
        (line,) = [text for text in out.splitlines() if "stopped by" in text]
        assert number.name in line and "--resume True" in line
        assert "Traceback" not in out + err and "terminating" not in out + err
        assert read_checkpoint(tmp_path / number.name / "models" / "last.pt")["epoch"] >= 1


# bad numbers, no memory, no disk


@pytest.mark.parametrize("batch_size, workers", [(1, 2), (2, 0)])
def test_a_bad_loss_names_its_cases_and_keeps_the_weights(batch_size, workers, phantoms, tmp_path):
    overrides = given(tmp_path / "run", phantoms, batch_size=batch_size, num_workers=workers, epochs=1)
    run("train", TRAIN, **overrides)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run" / "models").glob("*.pt")}
    made, trainer = prepared("train", **{**overrides, "epochs": 2, "resume": True})
    dataset = made.parser.get_parsed_content("train::dataset")
    dataset._cache[3]["image"][:] = float("nan")
    message = refusal(made.run)
    made.finalize()
    assert "epoch 2" in message and "the loss is nan" in message and dataset.data[3]["image"] in message
    assert sum(item["image"] in message for item in dataset.data) == batch_size
    assert {file.name: file.read_bytes() for file in (tmp_path / "run" / "models").glob("*.pt")} == before
    assert all(
        torch.isfinite(value).all() for value in read_checkpoint(tmp_path / "run/models/last.pt")["model"].values()
    )


def lack_of_memory():
    torch.empty(2**60)


def lack_of_gpu_memory():
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has\na total capacity of 15 GiB"
    )


def python_lack_of_memory():
    raise MemoryError


@pytest.mark.parametrize(
    "engine, lack",
    [
        ("train::trainer", lack_of_memory),
        ("train::trainer", lack_of_gpu_memory),
        ("train::trainer", python_lack_of_memory),
        ("validate::evaluator", lack_of_memory),
    ],
)
def test_lack_of_memory_says_what_to_lower(engine, lack, phantoms, tmp_path):
    made, trainer = prepared("train", **given(tmp_path / "run", phantoms))
    made.parser.get_parsed_content(engine).inferer = lambda *_: lack()
    message = refusal(made.run)
    made.finalize()
    words = ["out of memory", "batch_size (now 2)", "spatial_size (now [32, 32, 16])", "features (now 4)"]
    assert all(word in message for word in [*words, "--network_def::checkpointing True", "epoch 1"])
    assert len(message) < 450


def test_what_another_network_does_not_have_is_not_advised(phantoms, tmp_path):
    options = given(tmp_path / "run", phantoms) | {
        "network_def": {"_target_": "monai.networks.nets.BasicUNet", "out_channels": 6}
    }
    made, trainer = prepared("train", **options)
    trainer.inferer = lambda *_: lack_of_memory()
    message = refusal(made.run)
    made.finalize()
    assert "batch_size (now 2), spatial_size (now [32, 32, 16])" in message
    assert "features" not in message and "checkpointing" not in message


@pytest.mark.slow  # torch waits five seconds for a worker that is gone
def test_a_killed_worker_ends_the_run_in_one_line(phantoms, tmp_path):
    """As the kernel does where memory is short."""
    made, trainer = prepared("train", **given(tmp_path / "run", phantoms, num_workers=1))

    @trainer.on(Events.ITERATION_STARTED(once=1))
    def kill():
        for worker in trainer._dataloader_iter._workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        time.sleep(0.1)

    message = refusal(made.run)
    made.finalize()
    assert "epoch 1" in message and "num_workers" in message and "DataLoader worker" in message


def test_another_error_stays_what_it_is(phantoms, tmp_path):
    made, trainer = prepared("train", **given(tmp_path / "run", phantoms))
    trainer.inferer = lambda *_: (_ for _ in ()).throw(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError) as caught:
        made.run()
    assert str(caught.value.__cause__) == "shapes do not match"  # the configuration wraps every error in one of its own
    made.finalize()


@pytest.mark.parametrize("name", ["model.pt", "last.pt", "history.csv", "progress.png"])
def test_a_full_disk_ends_the_run_in_one_line_and_leaves_the_epoch_before(name, phantoms, tmp_path, monkeypatch):
    overrides = given(tmp_path / "run", phantoms, epochs=2, charts=name == "progress.png")
    monkeypatch.setattr("scripts.training.history.SPARING", 0)  # the picture is drawn after every epoch
    made, trainer = prepared("train", **overrides)
    real = os.fsync

    def full(handle):
        if trainer.state.epoch == 2 and f".{name}." in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", full)
    kept = made.parser.get_parsed_content("best_model").best
    kept["score"] = -2.0 if name == "model.pt" else 2.0
    monkeypatch.setattr(made.parser.get_parsed_content("early_stop"), "active", False)
    if name == "model.pt":  # every epoch is the best one
        trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda: made.parser.get_parsed_content("best_model").best.update(score=-1.0)
        )
    message = refusal(made.run)
    made.finalize()
    assert name in message and "No space left on device" in message and "are free" in message
    assert ("bytes are needed" in message) == name.endswith(".pt")
    assert read_checkpoint(tmp_path / "run" / "models" / "last.pt")["epoch"] == 1
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_a_save_cut_off_by_the_kernel_leaves_all_as_it_was(tmp_path):
    assert experiments.full_disks(tmp_path, 10) == 10


def test_a_disk_full_at_any_later_call_leaves_a_whole_state(tmp_path):
    assert experiments.failing_calls(tmp_path, 10) == 10


# files that are not what was written


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """With `model.json` all are refused; without it all but a few, in padding, which change no weight."""
    refused, without, same = experiments.flips(tmp_path, 300, seed=0)
    assert refused == 300 == without + same and without > 200


class Call:
    """Pickled, it asks for a call when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(kind: str, trace: Path):
    """An object or the bytes of a file that makes the folder `trace` where it is believed."""
    code = f"__import__('os').mkdir({str(trace)!r})"
    nested, saved = pickle.dumps(Call(os.mkdir, str(trace))), io.BytesIO()
    torch.save(Call(os.mkdir, str(trace)), saved)
    return {
        "system": Call(os.system, f"mkdir {trace}"),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "partial": Call(functools.partial(os.mkdir, str(trace))),
        "nested pickle": Call(pickle.loads, nested),
        "a loader of torch's": Call(torch.storage._load_from_bytes, saved.getvalue()),
        "subprocess": Call(subprocess.call, ["mkdir", str(trace)]),
    }[kind]


KINDS = ["system", "eval", "exec", "partial", "nested pickle", "a loader of torch's", "subprocess"]


@pytest.mark.parametrize("place", ["beside the weights", "as the file", "as a weight", "no zip file", "path upwards"])
@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_file_does_not_run(kind, place, tmp_path):
    """Although the sha256 in its description is right: who writes the one can write the other."""
    file, trace = tmp_path / "in" / "model.pt", tmp_path / "trace"
    file.parent.mkdir()
    harm, buffer = hostile(kind, trace), io.BytesIO()
    if place == "no zip file":
        buffer.write(pickle.dumps(harm, protocol=2))
    elif place == "path upwards":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("../../trace", "x")
            archive.writestr("archive/data.pkl", pickle.dumps(harm, protocol=2))
            archive.writestr("archive/../../../trace", "x")
            archive.writestr("archive/version", "3\n")
    else:
        wrapped = {
            "beside the weights": {"model": {"w": torch.ones(2)}, "info": harm},
            "as the file": harm,
            "as a weight": {"model": {"w": harm}},
        }
        torch.save(wrapped[place], buffer)
    file.write_bytes(buffer.getvalue())
    entry = {"file": "model.pt", "sha256": sha256(buffer.getvalue())}
    info_file(file).write_text(json.dumps({"networks": [entry]}))
    message = refusal(read_weights, file)
    assert message == refusal(read_checkpoint, file)
    assert str(file) in message and "not a readable checkpoint" in message
    assert not trace.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    if place == "no zip file":
        pickle.loads(buffer.getvalue())
        assert trace.exists()  # the file is harmful indeed


# a configuration that is not the one it was


@pytest.mark.parametrize(
    "now, words",
    [
        ({"batch_size": 1}, "batch_size was 2, is 1"),
        ({"learning_rate": 0.01}, "learning_rate was 0.0005, is 0.01"),
        ({"spatial_size": [32, 32, 32]}, "spatial_size was [32, 32, 16], is [32, 32, 32]"),
        ({"features": 8}, "features was 4, is 8"),
        ({"seed": 5}, "seed was 0, is 5"),
        ({"network_def::variant": "paper"}, "network_def was ImprovedUNet"),
        ({"random_chain": "$@resize_chain"}, None),
        ({"fold": None, "datalist": "fewer.json"}, "training cases was 6"),
    ],
)
def test_a_changed_configuration_is_named(now, words, unbroken, phantoms, tmp_path):
    shutil.copytree(unbroken, tmp_path / "run")
    overrides = given(tmp_path / "run", phantoms, datalist=unbroken.parent / "datalist.json")
    if "datalist" in now:
        content = datalist.read_datalist(overrides["datalist"])
        content["training"] = content["training"][1:]
        now["datalist"] = tmp_path / "fewer.json"
        datalist.write_datalist(content, now["datalist"])
    files = TRAIN
    if "random_chain" in now:
        now, files, words = (
            {},
            ["train.json", "resize_last.json"],
            "train::preprocessing::transforms was [..., AsDiscreted",
        )
    made = workflow("train", files, **{**overrides, "epochs": 4, "resume": True, **now})
    made.initialize()
    message = refusal(made.run)
    made.finalize()
    assert words in message and "--resume_changed True" in message and "last.pt" in message


def test_what_shapes_no_step_may_change(unbroken, phantoms, tmp_path):
    """More epochs, other workers, another cache, other intervals, other folders, a moved data set."""
    shutil.copytree(unbroken / "models", tmp_path / "models")
    shutil.copytree(phantoms, tmp_path / "data")
    content = datalist.read_datalist(unbroken.parent / "datalist.json")
    for split in ("training", "validation", "test"):
        for entry in content[split]:
            entry |= {key: str(Path(entry[key]).relative_to(phantoms)) for key in ("image", "label")}
    content["dataset_dir"] = str(tmp_path / "data")
    datalist.write_datalist(content, tmp_path / "list.json")
    paths = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    others = {"num_workers": 1, "cache_rate": 0.5, "picture_interval": 1, "early_stop_patience": 5}
    run("train", TRAIN, **paths, **others, datalist=tmp_path / "list.json", epochs=3, resume=True)
    assert read_checkpoint(tmp_path / "models" / "last.pt")["epoch"] == 3
