"""A run's checkpoints: complete or not there, renamed and not overwritten, refused where they belong to another run."""

import logging
import math
import os
from types import SimpleNamespace

import pytest
import torch
from checkpoint_samples import INFO, NAMES, RANGES, flip, names, network, same
from helpers import refusal
from ignite.engine import Engine, Events
from monai.optimizers import WarmupCosineSchedule

from scripts.networks.improved_unet import ImprovedUNet
from scripts.training import checkpoints as module
from scripts.training.best_model import BestModel
from scripts.training.checkpoint_files import clean_up_after_kill, read_checkpoint, write_checkpoint
from scripts.training.checkpoints import Checkpoints
from scripts.training.run_identity import RunIdentity
from scripts.training.weights import load_weights, read_weights
from scripts.training.weights_info import info_file, write_weights


def test_what_is_written_can_be_read(tmp_path):
    file = tmp_path / "new" / "folder" / "last.pt"
    write_checkpoint({"model": {"w": torch.arange(3)}, "epoch": 2}, file)
    content = read_checkpoint(file)
    assert content["epoch"] == 2 and torch.equal(content["model"]["w"], torch.arange(3))
    assert names(file.parent) == ["last.pt"]


@pytest.mark.parametrize("step", ["torch.save", "os.fsync"])
def test_a_write_that_fails_midway_leaves_the_old_file_whole(step, tmp_path, monkeypatch):
    file, made = tmp_path / "model.pt", network()
    write_weights(made.state_dict(), INFO, file)
    before = file.read_bytes()

    def half(content, buffer, *_):
        buffer.write(b"half of it")
        raise OSError("disk full")

    def failing(*_):
        raise OSError("disk full")

    if step == "torch.save":
        monkeypatch.setattr(torch, "save", half)
    else:
        monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="disk full"):
        write_weights(network(1).state_dict(), INFO, file)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint({"model": network(1).state_dict()}, file.with_name("last.pt"))
    monkeypatch.undo()
    assert file.read_bytes() == before and names(tmp_path) == ["model.json", "model.pt"]
    assert read_weights(file).info == INFO


def test_what_a_killed_write_left_is_cleared_up(tmp_path):
    for name in ("last.pt", ".last.pt.17.partial", ".model.pt.17.partial"):
        (tmp_path / name).write_text("half")
    clean_up_after_kill(tmp_path / "last.pt")
    assert names(tmp_path) == [".model.pt.17.partial", "last.pt"]


def test_the_digest_of_an_older_version_goes_with_its_file(tmp_path):
    for name in ("last.pt", "last.previous.pt"):
        (tmp_path / f"{name}.sha256").write_text("of an older version")
    (tmp_path / "last.pt").write_text("of an older version")
    write_checkpoint({"model": {}}, tmp_path / "last.pt", tmp_path / "last.previous.pt")
    assert names(tmp_path) == ["last.previous.pt", "last.pt"]


class Run:
    """A trainer without training: every epoch moves the weights and reads its score off a list."""

    def __init__(self, folder, scores, resume=False, seed=0, keep_last=False, **options):
        self.network = network(seed)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.5)
        self.note = Note()
        self.evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))
        self.trainer = Engine(lambda *_: None)
        self.trainer.scaler = None
        self.scores = scores
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self.step)
        info = {"class_names": NAMES, "trained_on": "phantoms", "ranges": RANGES}
        best = BestModel(folder, self.network, self.evaluator, "dice", info, keep_last)
        identity = {"parts": {"network_def": self.network, "optimizer": self.optimizer}, "knobs": {}, "cases": {}}
        self.checkpoints = Checkpoints(
            folder,
            self.network,
            {"optimizer": self.optimizer, "lr_scheduler": self.scheduler, "note": self.note},
            best,
            RunIdentity(**{**identity, **options}),
            resume,
        )
        self.checkpoints.attach(self.trainer)

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
    kept, last = read_weights(tmp_path / "model.pt"), load(tmp_path / "last.pt")
    expected = {"class_names": NAMES, "trained_on": "phantoms", "ranges": RANGES}
    expected |= {"epoch": best, "score": scores[best - 1]}
    assert kept.info == last["info"] == expected and last["best"] == {"epoch": best, "score": scores[best - 1]}
    assert all(torch.equal(kept.networks[0][key], value) for key, value in after.network.state_dict().items())
    assert last["epoch"] == 3 and last["note"] == {"epochs": [1, 2, 3]}


@pytest.mark.parametrize("scores, kept", [([0.9, 0.1], 0.1), ([None, None], -1.0), ([0.9, None], -1.0)])
def test_the_last_epoch_is_kept_where_asked(scores, kept, tmp_path, caplog):
    """Whatever validation says, and without any."""
    made = Run(tmp_path, scores, keep_last=True)
    with caplog.at_level("INFO"):
        made.go(2)
    saved = read_weights(tmp_path / "model.pt")
    assert saved.info["epoch"] == 2 and saved.info["score"] == kept
    assert all(torch.equal(saved.networks[0][key], value) for key, value in made.network.state_dict().items())
    assert f"finished at epoch 2: the weights of epoch 2 are in {tmp_path / 'model.pt'}" in caplog.text
    with caplog.at_level("INFO"):
        load_weights(str(tmp_path / "model.pt"), network(1), NAMES)
    assert ("validation Dice" in caplog.messages[-1]) == (kept >= 0)


@pytest.mark.parametrize("score", [float("nan"), None])
def test_without_a_score_there_is_no_best_model_and_the_log_names_none(score, tmp_path, caplog):
    with caplog.at_level("INFO"):
        Run(tmp_path, [score]).go(1)
    assert names(tmp_path) == ["last.pt"]
    (line,) = [message for message in caplog.messages if message.startswith("finished")]
    assert "no epoch has a validation score, so there is no model.pt" in line and str(tmp_path / "last.pt") in line
    assert str(tmp_path / "model.pt") not in line


def test_without_a_score_the_weights_of_the_start_are_named(tmp_path, caplog):
    run = Run(tmp_path, [None])
    run.trainer.add_event_handler(Events.EPOCH_STARTED, run.checkpoints.best_model.keep_start)
    with caplog.at_level("INFO"):
        run.go(1)
    (line,) = [message for message in caplog.messages if message.startswith("finished")]
    assert f"{tmp_path / 'model.pt'} has the weights that the training started from" in line


def test_resuming_goes_on_where_it_stopped(tmp_path):
    scores = [0.5, 0.4, 0.6, 0.1]
    whole = Run(tmp_path / "a", scores).go(4)
    Run(tmp_path / "b", scores).go(2)
    resumed = Run(tmp_path / "b", scores, resume=True, seed=1).go(4)
    assert same(whole.network, resumed.network)
    assert resumed.note.epochs == [1, 2, 3, 4]
    assert resumed.trainer.state.iteration == whole.trainer.state.iteration
    assert resumed.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**4
    assert read_weights(tmp_path / "b" / "model.pt").info == read_weights(tmp_path / "a" / "model.pt").info
    assert names(tmp_path / "b") == ["last.previous.pt", "last.pt", "model.json", "model.pt"]
    assert load(tmp_path / "b" / "last.previous.pt")["epoch"] == 3


def test_resuming_restores_the_scale_of_mixed_precision(tmp_path):
    first, second = Run(tmp_path, [0.5]), Run(tmp_path, [0.5, 0.6], resume=True)
    for run in (first, second):
        run.trainer.scaler = torch.amp.GradScaler("cpu")
    first.trainer.scaler.load_state_dict({**first.trainer.scaler.state_dict(), "scale": 4.0, "_growth_tracker": 3})
    first.go(1)
    second.go(2)
    state = second.trainer.scaler.state_dict()
    assert (state["scale"], state["_growth_tracker"]) == (4.0, 3)


def test_a_new_run_moves_the_old_one_aside(tmp_path):
    old = Run(tmp_path, [0.9]).go(1)
    Run(tmp_path, [0.1], seed=1).go(1)
    expected = ["last.1.pt", "last.pt", "model.1.json", "model.1.pt", "model.json", "model.pt"]
    assert names(tmp_path) == expected
    assert "model" in read_checkpoint(tmp_path / "last.1.pt")
    kept, now = read_weights(tmp_path / "model.1.pt"), read_weights(tmp_path / "model.pt")
    assert (kept.info["score"], now.info["score"]) == (0.9, 0.1) and not kept.notes + now.notes
    assert all(torch.equal(kept.networks[0][key], value) for key, value in old.network.state_dict().items())


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


def test_a_part_that_the_former_run_did_not_have_is_named_by_the_settings(tmp_path):
    """As an average of the weights, if strong.json is added: the changed settings are the reason, and come first."""
    Run(tmp_path, [0.2], parts={"loss": torch.nn.L1Loss()}).go(1)
    changed = Run(tmp_path, [0.2, 0.3], resume=True, parts={"loss": torch.nn.MSELoss()})
    changed.checkpoints.parts["averaged"] = Note()
    assert "loss was L1Loss" in (said := refusal(changed.go, 2)) and "lacks" not in said
    allowed = Run(tmp_path, [0.2, 0.3], resume=True, parts={"loss": torch.nn.L1Loss()})
    allowed.checkpoints.parts["averaged"] = Note()
    assert "last.pt: a run with these settings can't be resumed from it, it lacks averaged" in refusal(allowed.go, 2)
    assert names(tmp_path) == ["last.pt", "model.json", "model.pt"]


# which state a run resumes from


def damaged(file):
    flip(file, 4 * file.stat().st_size)


def emptied(file):
    file.write_bytes(b"")


def without_state(file):
    write_checkpoint({"model": network().state_dict(), "info": {}}, file)


def gone(file):
    file.unlink()


@pytest.mark.parametrize("harm", [damaged, emptied, without_state, gone])
def test_the_state_before_the_last_takes_over(harm, tmp_path, caplog):
    scores = [0.5, 0.4, 0.6, 0.1]
    whole = Run(tmp_path / "a", scores).go(4)
    Run(tmp_path / "b", scores).go(3)
    harm(tmp_path / "b" / "last.pt")
    with caplog.at_level(logging.INFO):
        resumed = Run(tmp_path / "b", scores, resume=True, seed=1).go(4)
    said = "\n".join(caplog.messages)
    assert f"resumed from {tmp_path / 'b' / 'last.previous.pt'} after epoch 2" in said
    if harm is not gone:
        warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert len(warned) == 1 and str(tmp_path / "b" / "last.pt") in warned[0] and "last.previous.pt" in warned[0]
        assert (tmp_path / "b" / "last.1.pt").is_file()  # the broken one is no reason to lose a whole one
    assert same(whole.network, resumed.network) and resumed.note.epochs == [1, 2, 3, 4]
    assert load(tmp_path / "b" / "last.pt")["epoch"] == 4 and load(tmp_path / "b" / "last.previous.pt")["epoch"] == 3


def test_the_whole_state_stays_while_the_broken_one_is_replaced(tmp_path, monkeypatch):
    """Killed in the first save after a fallback, wherever: the state resumed from is still there."""
    Run(tmp_path, [0.5, 0.4]).go(2)
    damaged(tmp_path / "last.pt")
    monkeypatch.setattr(module, "write_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, [0.5, 0.4, 0.3], resume=True).go(3)
    assert read_checkpoint(tmp_path / "last.previous.pt")["epoch"] == 1


def test_no_whole_state_is_refused_and_nothing_is_touched(tmp_path):
    Run(tmp_path, [0.5, 0.4]).go(2)
    for name in ("last.pt", "last.previous.pt"):
        damaged(tmp_path / name)
    before = names(tmp_path)
    message = refusal(Run(tmp_path, [0.5, 0.4, 0.3], resume=True).go, 3)
    assert str(tmp_path / "last.pt") in message and str(tmp_path / "last.previous.pt") in message
    assert "no complete checkpoint to resume from" in message and "--resume" in message
    assert names(tmp_path) == before


@pytest.mark.parametrize("harm", [damaged, gone])
def test_lost_weights_of_the_best_epoch_are_said_and_replaced(harm, tmp_path, caplog):
    Run(tmp_path, [0.9, 0.4]).go(2)
    harm(tmp_path / "model.pt")
    Run(tmp_path, [0.9, 0.4, 0.3], resume=True).go(3)
    assert any("the weights of epoch 1, the best so far, are lost" in message for message in caplog.messages)
    assert read_weights(tmp_path / "model.pt").info["score"] == 0.3


def test_a_better_epoch_that_was_kept_before_the_stop_stays_the_best(tmp_path):
    """The run ends between model.pt and last.pt; the repeated epoch is worse, as on another machine it may be."""
    Run(tmp_path, [0.5]).go(1)
    older = (tmp_path / "last.pt").read_bytes()
    Run(tmp_path, [0.5, 0.6], resume=True).go(2)
    (tmp_path / "last.pt").write_bytes(older)
    (tmp_path / "last.previous.pt").unlink()
    Run(tmp_path, [0.5, 0.49, 0.55], resume=True).go(3)
    kept = read_weights(tmp_path / "model.pt").info
    assert (kept["epoch"], kept["score"]) == (2, 0.6)


def test_a_lengthened_training_has_the_rates_of_its_new_schedule(tmp_path):
    def rate(scheduled: int, epochs: int, **options) -> float:
        made = Run(tmp_path, [0.5] * 8, **options)
        made.scheduler = WarmupCosineSchedule(made.optimizer, 0, scheduled)
        made.checkpoints.parts["lr_scheduler"] = made.scheduler
        made.go(epochs)
        return made.optimizer.param_groups[0]["lr"]

    assert rate(4, 4) == pytest.approx(0)
    assert rate(8, 6, resume=True, allow_changes=True) == pytest.approx(0.1 * (1 + math.cos(math.pi * 6 / 8)) / 2)


def test_a_schedule_by_iterations_keeps_its_place_where_an_epoch_has_another_number_of_them(tmp_path):
    def rate(steps: int, epochs: int) -> float:
        other = {"knobs": {"schedule_by_epoch": False}, "cases": {"training": [{"image": f"{steps}.nii"}]}}
        made = Run(tmp_path, [0.5] * 4, resume=True, allow_changes=True, **other)
        schedule = WarmupCosineSchedule(made.optimizer, 0, 4 * steps)
        made.scheduler = SimpleNamespace(step=lambda: None)  # not by epochs
        made.checkpoints.parts["lr_scheduler"] = schedule
        made.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: schedule.step())
        made.trainer.run([0] * steps, max_epochs=epochs)
        return made.optimizer.param_groups[0]["lr"]

    assert rate(2, 2) == pytest.approx(0.1 / 2)
    assert rate(6, 3) == pytest.approx(0.1 * (1 + math.cos(math.pi * 3 / 4)) / 2)


def test_a_changed_rate_and_its_companions_are_those_of_the_resumed_run(tmp_path):
    """The rate keeps its place on the schedule; without a change everything is as it was saved."""

    def go(epochs: int, rate: float, decay: float, gamma: float, **options) -> dict:
        made = Run(tmp_path, [0.5] * 4)
        made.optimizer = torch.optim.AdamW(made.network.parameters(), lr=rate, weight_decay=decay)
        made.scheduler = torch.optim.lr_scheduler.ExponentialLR(made.optimizer, gamma)
        made.checkpoints.parts |= {"optimizer": made.optimizer, "lr_scheduler": made.scheduler}
        parts = {"optimizer": made.optimizer, "lr_scheduler": made.scheduler}
        made.checkpoints.identity = RunIdentity(parts, {}, {}, allow_changes=True)
        made.checkpoints.resume = True
        made.go(epochs)
        return made.optimizer.param_groups[0]

    assert go(2, 0.1, 0.01, 0.5)["lr"] == pytest.approx(0.1 * 0.5**2)
    same = go(3, 0.1, 0.01, 0.5)
    assert (same["lr"], same["weight_decay"]) == (0.1 * 0.5**3, 0.01)
    other = go(4, 0.02, 0.3, 0.25)
    assert other["lr"] == pytest.approx(0.02 * 0.5**3 * 0.25) and other["weight_decay"] == 0.3


def test_what_was_learned_of_weights_keeps_their_name(tmp_path):
    Run(tmp_path, [0.5]).go(1)
    (tmp_path / "model_doubt.json").write_text("{}")
    Run(tmp_path, [0.5]).go(1)
    assert (tmp_path / "model.1_doubt.json").is_file() and not (tmp_path / "model_doubt.json").exists()


# checkpoints of an older version


def test_a_checkpoint_of_an_older_version_is_resumed_with_a_note(tmp_path, caplog):
    """The best weights in a nested file, digests beside both, a flat list of settings."""
    knobs = {"batch_size": 2, "seed": 0}
    first = Run(tmp_path, [0.2], knobs=knobs).go(1)
    saved, best = load(tmp_path / "last.pt"), read_weights(tmp_path / "model.pt")
    del saved["identity"]
    saved["fingerprint"] = {"batch_size": 2, "seed": 0, "loss": "DiceCELoss", "processes": 1}
    write_checkpoint(saved, tmp_path / "last.pt")
    write_checkpoint({"model": best.networks[0], "info": best.info}, tmp_path / "model.pt")
    info_file(tmp_path / "model.pt").unlink()
    for name in ("last.pt", "model.pt"):
        (tmp_path / f"{name}.sha256").write_text("of an older version")
    message = refusal(Run(tmp_path, [0.2, 0.3], resume=True, knobs={**knobs, "seed": 1}).go, 2)
    assert "seed was 0, is 1" in message and "batch_size" not in message
    resumed = Run(tmp_path, [0.2, 0.1], resume=True, knobs=knobs).go(2)
    assert any("saved by an older version" in message and "can't be" in message for message in caplog.messages)
    assert resumed.note.epochs == [1, 2] and names(tmp_path) == [
        "last.previous.pt", "last.pt", "model.pt", "model.pt.sha256"
    ]  # fmt: skip
    filled = network(5)
    load_weights(str(tmp_path / "model.pt"), filled, NAMES)
    assert all(torch.equal(value, best.networks[0][name]) for name, value in filled.state_dict().items())
    Run(tmp_path, [0.2, 0.1, 0.9], resume=True, knobs=knobs).go(3)
    assert names(tmp_path) == ["last.previous.pt", "last.pt", "model.json", "model.pt"]
    assert not same(first.network, resumed.network)


def test_a_checkpoint_without_any_identity_is_resumed_with_a_note(tmp_path, caplog):
    Run(tmp_path, [0.2]).go(1)
    saved = load(tmp_path / "last.pt")
    del saved["identity"]
    write_checkpoint(saved, tmp_path / "last.pt")
    Run(tmp_path, [0.2, 0.3], resume=True).go(2)
    assert any("does not tell its settings and cases" in message for message in caplog.messages)


def test_resume_refuses_another_network(tmp_path, monkeypatch):
    Run(tmp_path, [0.2]).go(1)
    monkeypatch.setitem(globals(), "network", lambda seed=0: ImprovedUNet(features=2, levels=3, out_channels=2))
    for changed, words in ((False, "network_def was ImprovedUNet, "), (True, "another network")):
        message = refusal(Run(tmp_path, [0.2, 0.3], resume=True, allow_changes=changed).go, 2)
        assert str(tmp_path / "last.pt") in message and words in message
