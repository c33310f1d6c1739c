"""Files of weights: whole or not there, moved aside and not overwritten, refused where they do not fit."""

import logging
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from helpers import refusal
from ignite.engine import Engine, Events

from scripts import checkpoint
from scripts.checkpoint import Checkpoints, load_weights, write
from scripts.improved_unet import ImprovedUNet

NAMES = ["background", "body"]
RANGES = {"body": {"ml": [1.5, 2.5], "pieces": 1, "border": 0.0, "n": 2}}


def network(seed=0, **arguments):
    torch.manual_seed(seed)
    return ImprovedUNet(**{"features": 1, "levels": 3, "out_channels": 2, **arguments})


@pytest.fixture
def saved(tmp_path):
    """A file as training writes it, and the network in it."""
    made = network()
    info = {"class_names": NAMES, "trained_on": "phantoms", "epoch": 7, "score": 0.8125}
    write({"model": made.state_dict(), "info": info}, tmp_path / "model.pt")
    return tmp_path / "model.pt", made


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_what_is_written_can_be_read(tmp_path):
    file = tmp_path / "new" / "folder" / "model.pt"
    write({"model": {"w": torch.arange(3)}, "epoch": 2}, file)
    content = checkpoint.read_checkpoint(file)
    assert content["epoch"] == 2 and torch.equal(content["model"]["w"], torch.arange(3))
    assert [path.name for path in file.parent.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("step", ["torch.save", "os.fsync"])
def test_a_write_that_fails_midway_leaves_the_old_file_whole(step, saved, monkeypatch):
    file, made = saved
    before = file.read_bytes()

    def half(content, partial, *_):
        partial.write_bytes(b"half of it")
        raise OSError("disk full")

    def failing(*_):
        raise OSError("disk full")

    if step == "torch.save":
        monkeypatch.setattr(torch, "save", half)
    else:
        monkeypatch.setattr(os, "fsync", failing)
    for target in (file, file.with_name("last.pt")):
        with pytest.raises(OSError, match="disk full"):
            write({"model": network(1).state_dict()}, target)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.glob("*.pt")) == ["model.pt"]  # hidden partial files end otherwise
    write({"model": made.state_dict()}, file)
    checkpoint.read_checkpoint(file)


def test_weights_are_loaded_and_named(saved, caplog):
    file, made = saved
    other = network(1)
    assert not same(made, other)
    with caplog.at_level(logging.INFO):
        load_weights(str(file), other, NAMES)
    assert same(made, other)
    assert caplog.messages == [f"weights: {file}, trained on phantoms (epoch 7, validation Dice 0.812)"]


def test_weights_without_info_are_taken_with_a_warning(tmp_path, caplog):
    file, made, other = tmp_path / "bare.pt", network(), network(1)
    torch.save({"model": made.state_dict()}, file)
    with caplog.at_level(logging.INFO):
        load_weights(str(file), other, NAMES)
    assert same(made, other)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert str(file) in caplog.messages[0] and "no class names" in caplog.messages[0]
    assert "trained on unknown data" in caplog.messages[1]


def test_no_weights_yet(tmp_path):
    message = refusal(load_weights, str(tmp_path / "model.pt"), network(), NAMES)
    assert str(tmp_path / "model.pt") in message and "run training" in message and "--ckpt_dir" in message


@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "not a readable checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a readable checkpoint"),
        (bytes(1000), "not a readable checkpoint"),
        (None, "not a readable checkpoint"),  # half of a file
        ({"state_dict": {}}, "no weights under the key 'model'"),
        ([1, 2], "no weights under the key 'model'"),
        ({"model": {}}, "another network"),
        ({"model": 5}, "no weights under the key 'model'"),
    ],
)
def test_files_that_are_no_weights(content, word, saved):
    file, _ = saved
    if content is None:
        file.write_bytes(file.read_bytes()[:2000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and word in message


@pytest.mark.parametrize("names", [["background", "prostate"], ["body", "background"], ["background", "body", "bones"]])
def test_other_classes(names, saved):
    file, _ = saved
    message = refusal(load_weights, str(file), network(), names)
    assert all(word in message for word in (str(file), str(NAMES), str(names), "--class_names"))


@pytest.mark.parametrize(
    "arguments", [{"features": 2}, {"levels": 4}, {"variant": "paper"}, {"in_channels": 2}, {"spatial_dims": 2}]
)
def test_another_network(arguments, saved):
    file, _ = saved
    message = refusal(load_weights, str(file), network(**arguments), NAMES)
    assert str(file) in message and "another network" in message and len(message) < 400


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(zipped, tmp_path):
    file, trace = tmp_path / "model.pt", tmp_path / "trace"
    content = {"model": network().state_dict(), "info": Harm(trace)}
    if zipped:
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(Harm(trace), protocol=2))
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and "not a readable checkpoint" in message
    assert not trace.exists()
    if not zipped:
        pickle.loads(file.read_bytes())
        assert trace.exists()  # the file is harmful indeed


class Run:
    """A trainer without training: every epoch moves the weights and reads its score off a list."""

    def __init__(self, folder, scores, resume=False, seed=0):
        self.network = network(seed)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.5)
        self.note = Note()
        self.evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))
        self.trainer = Engine(lambda *_: None)
        self.trainer.scaler = None
        self.scores = scores
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.step)
        states = {"note": self.note}
        Checkpoints(
            folder,
            self.network,
            self.optimizer,
            self.scheduler,
            self.evaluator,
            "dice",
            NAMES,
            "phantoms",
            RANGES,
            states,
            resume,
        ).attach(self.trainer)

    def step(self):
        epoch = self.trainer.state.epoch
        for parameter in self.network.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()
        self.scheduler.step()
        self.note.epochs.append(epoch)
        if self.scores[epoch - 1] is not None:
            self.evaluator.state = SimpleNamespace(epoch=epoch, metrics={"dice": self.scores[epoch - 1]})

    def go(self, epochs):
        self.trainer.run([0, 0], max_epochs=epochs)
        return self


class Note:
    def __init__(self):
        self.epochs = []

    def state_dict(self):
        return {"epochs": list(self.epochs)}

    def load_state_dict(self, state):
        self.epochs = list(state["epochs"])


def load(file):
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    "scores, best",
    [
        ([0.5, 0.7, 0.6], 2),
        ([0.5, 0.5, 0.5], 1),
        ([float("nan"), 0.1, float("nan")], 2),
        ([0.0, None, None], 1),  # epochs without a validation
        ([None, None, 0.3], 3),
    ],
)
def test_the_best_epoch_is_kept(scores, best, tmp_path):
    Run(tmp_path, scores).go(3)
    after = Run(tmp_path / "again", scores).go(best)
    kept, last = load(tmp_path / "model.pt"), load(tmp_path / "last.pt")
    expected = {"class_names": NAMES, "trained_on": "phantoms", "ranges": RANGES}
    expected |= {"epoch": best, "score": scores[best - 1]}
    assert kept["info"] == expected and last["best"] == {"epoch": best, "score": scores[best - 1]}
    assert all(torch.equal(kept["model"][key], value) for key, value in after.network.state_dict().items())
    assert last["epoch"] == 3 and last["note"] == {"epochs": [1, 2, 3]}


def test_without_a_score_there_is_no_best_model(tmp_path):
    Run(tmp_path, [float("nan")]).go(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt"]


def test_resuming_goes_on_where_it_stopped(tmp_path):
    scores = [0.5, 0.4, 0.6, 0.1]
    whole = Run(tmp_path / "a", scores).go(4)
    Run(tmp_path / "b", scores).go(2)
    resumed = Run(tmp_path / "b", scores, resume=True, seed=1).go(4)
    assert same(whole.network, resumed.network)
    assert resumed.note.epochs == [1, 2, 3, 4]
    assert resumed.trainer.state.iteration == whole.trainer.state.iteration
    assert resumed.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**4
    assert load(tmp_path / "b" / "model.pt")["info"] == load(tmp_path / "a" / "model.pt")["info"]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["last.pt", "model.pt"]


def test_a_new_run_moves_the_old_one_aside(tmp_path):
    old = Run(tmp_path, [0.9]).go(1)
    Run(tmp_path, [0.1], seed=1).go(1)
    names = ["last.1.pt", "last.pt", "model.1.pt", "model.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    kept = load(tmp_path / "model.1.pt")["model"]
    assert all(torch.equal(kept[key], value) for key, value in old.network.state_dict().items())
    assert load(tmp_path / "model.pt")["info"]["score"] == 0.1


def test_resume_without_an_earlier_run_starts_at_the_beginning(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        Run(tmp_path, [0.2], resume=True).go(1)
    assert any("nothing to resume" in message and str(tmp_path / "last.pt") in message for message in caplog.messages)
    assert load(tmp_path / "last.pt")["epoch"] == 1


def test_resume_refuses_other_classes(tmp_path, monkeypatch):
    Run(tmp_path, [0.2]).go(1)
    monkeypatch.setitem(globals(), "NAMES", ["background", "bladder"])
    message = refusal(Run(tmp_path, [0.2, 0.3], resume=True).go, 2)
    assert str(tmp_path / "last.pt") in message and "bladder" in message and "body" in message
    assert load(tmp_path / "last.pt")["epoch"] == 1
