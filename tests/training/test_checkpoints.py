"""Files of weights: whole or not there, moved aside and not overwritten, refused where they do not fit."""

import logging
import os
import subprocess
from types import SimpleNamespace

import pytest
import torch
from helpers import refusal
from ignite.engine import Engine, Events

from scripts.networks.improved_unet import ImprovedUNet
from scripts.training.checkpoint_files import (
    clean_up_after_kill,
    digest_file,
    pending_file,
    read_checkpoint,
    write_checkpoint,
)
from scripts.training.checkpoints import Checkpoints
from scripts.training.weights import load_weights

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
    write_checkpoint({"model": made.state_dict(), "info": info}, tmp_path / "model.pt")
    return tmp_path / "model.pt", made


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(file, bit: int) -> None:
    """Turns one bit of a file around."""
    with file.open("rb+") as stream:
        stream.seek(bit // 8)
        (byte,) = stream.read(1)
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_what_is_written_can_be_read(tmp_path):
    file = tmp_path / "new" / "folder" / "model.pt"
    write_checkpoint({"model": {"w": torch.arange(3)}, "epoch": 2}, file)
    content = read_checkpoint(file)
    assert content["epoch"] == 2 and torch.equal(content["model"]["w"], torch.arange(3))
    assert names(file.parent) == ["model.pt", "model.pt.sha256"]


def test_sha256sum_agrees(saved):
    file, _ = saved
    check = ["sha256sum", "-c", "model.pt.sha256"]
    done = subprocess.run(check, cwd=file.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "model.pt: OK\n")
    flip(file, 12345)
    assert subprocess.run(check, cwd=file.parent, capture_output=True).returncode == 1


@pytest.mark.parametrize("step", ["torch.save", "os.fsync"])
def test_a_write_that_fails_midway_leaves_the_old_file_whole(step, saved, monkeypatch):
    file, made = saved
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
    for target in (file, file.with_name("last.pt")):
        with pytest.raises(OSError, match="disk full"):
            write_checkpoint({"model": network(1).state_dict()}, target)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.glob("*.pt")) == ["model.pt"]  # hidden partial files end otherwise
    write_checkpoint({"model": made.state_dict()}, file)
    read_checkpoint(file)


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
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert str(file) in caplog.messages[0] and "no bare.pt.sha256 beside it" in caplog.messages[0]
    assert str(file) in caplog.messages[1] and "no class names" in caplog.messages[1]
    assert "trained on unknown data" in caplog.messages[2]


def test_no_weights_yet(tmp_path):
    message = refusal(load_weights, str(tmp_path / "model.pt"), network(), NAMES)
    assert str(tmp_path / "model.pt") in message and "run training" in message and "--ckpt_dir" in message


@pytest.mark.parametrize("with_digest", [True, False])
@pytest.mark.parametrize(
    "content, word",
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page"),
        (b"<html>404</html>", "an HTML page"),
        (2000, "a truncated checkpoint, its end is missing after 2,000 bytes"),
        (-1, "a truncated checkpoint"),
    ],
)
def test_files_that_are_something_else(content, word, with_digest, saved):
    """Each is named for what it is, whether or not a digest says that it is not what was written."""
    file, _ = saved
    file.write_bytes(content if isinstance(content, bytes) else file.read_bytes()[:content])
    if not with_digest:
        digest_file(file).unlink()
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and word in message


@pytest.mark.parametrize(
    "content, word",
    [
        (bytes(1000), "not a readable checkpoint"),
        (b"PK\5\6" + bytes(18), "not a readable checkpoint"),  # a zip file without members
        ({"state_dict": {}}, "no weights under the key 'model'"),
        ([1, 2], "no weights under the key 'model'"),
        ({"model": {}}, "another network"),
        ({"model": 5}, "no weights under the key 'model'"),
    ],
)
def test_files_that_are_no_weights(content, word, saved):
    file, _ = saved
    digest_file(file).unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and word in message


@pytest.mark.parametrize("text", ["", "0" * 64 + "  model.pt\n", "not a digest"])
def test_a_digest_that_says_otherwise(text, saved):
    file, _ = saved
    digest_file(file).write_text(text)
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and "model.pt.sha256" in message and "delete" in message


def test_a_digest_that_is_still_to_take_its_place_counts(saved):
    """Killed between the two renames of a write: the file is the new one, its digest still the old one's."""
    file, made = saved
    before = digest_file(file).read_text()
    write_checkpoint({"model": network(1).state_dict()}, file)
    digest_file(file).rename(pending_file(file))
    digest_file(file).write_text(before)
    assert "model" in read_checkpoint(file)
    clean_up_after_kill(file)
    assert names(file.parent) == ["model.pt", "model.pt.sha256"] and "model" in read_checkpoint(file)


def test_what_a_killed_write_left_is_cleared_up(saved):
    file, _ = saved
    before = digest_file(file).read_text()
    pending_file(file).write_text("0" * 64 + "  model.pt\n")
    for name in (".model.pt.17.partial", "..model.pt.sha256.next.17.partial"):
        (file.parent / name).write_text("half")
    other = file.parent / ".last.pt.17.partial"
    other.write_text("of another file")
    clean_up_after_kill(file)
    assert names(file.parent) == [other.name, "model.pt", "model.pt.sha256"]
    assert digest_file(file).read_text() == before


@pytest.mark.parametrize("asked", [["background", "prostate"], ["body", "background"], ["background", "body", "bones"]])
def test_other_classes(asked, saved):
    file, _ = saved
    message = refusal(load_weights, str(file), network(), asked)
    assert all(word in message for word in (str(file), str(NAMES), str(asked), "--class_names", "--weights_file"))


@pytest.mark.parametrize(
    "arguments", [{"features": 2}, {"levels": 4}, {"variant": "paper"}, {"in_channels": 2}, {"spatial_dims": 2}]
)
def test_another_network(arguments, saved):
    file, _ = saved
    message = refusal(load_weights, str(file), network(**arguments), NAMES)
    assert str(file) in message and "another network" in message and len(message) < 400


class Run:
    """A trainer without training: every epoch moves the weights and reads its score off a list."""

    def __init__(self, folder, scores, resume=False, seed=0, **options):
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
            **options,
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


@pytest.mark.parametrize("scores, kept", [([0.9, 0.1], 0.1), ([None, None], -1.0), ([0.9, None], -1.0)])
def test_the_last_epoch_is_kept_where_asked(scores, kept, tmp_path, caplog):
    """Whatever validation says, and without any."""
    made = Run(tmp_path, scores, keep_last=True)
    with caplog.at_level("INFO"):
        made.go(2)
    saved = load(tmp_path / "model.pt")
    assert saved["info"]["epoch"] == 2 and saved["info"]["score"] == kept
    assert all(torch.equal(saved["model"][key], value) for key, value in made.network.state_dict().items())
    assert "finished at epoch 2: its own weights" in caplog.text
    with caplog.at_level("INFO"):
        load_weights(str(tmp_path / "model.pt"), network(1), NAMES)
    assert ("validation Dice" in caplog.messages[-1]) == (kept >= 0)


def test_without_a_score_there_is_no_best_model(tmp_path):
    Run(tmp_path, [float("nan")]).go(1)
    assert names(tmp_path) == ["last.pt", "last.pt.sha256"]


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
    expected = [
        "last.previous.pt",
        "last.previous.pt.sha256",
        "last.pt",
        "last.pt.sha256",
        "model.pt",
        "model.pt.sha256",
    ]
    assert names(tmp_path / "b") == expected
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
    expected = [name + end for name in ("last.1.pt", "last.pt", "model.1.pt", "model.pt") for end in ("", ".sha256")]
    assert names(tmp_path) == expected
    for name in expected[::2]:
        assert "model" in read_checkpoint(tmp_path / name)
        assert digest_file(tmp_path / name).read_text().endswith(f"  {name}\n")
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


# which state a run resumes from


def damaged(file):
    flip(file, 8 * file.stat().st_size // 2)


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
    monkeypatch.setattr(
        "scripts.training.checkpoints.write_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
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
    assert "no whole state to resume from" in message and "--resume" in message
    assert names(tmp_path) == before


@pytest.mark.parametrize("harm", [damaged, gone])
def test_lost_weights_of_the_best_epoch_are_said_and_replaced(harm, tmp_path, caplog):
    Run(tmp_path, [0.9, 0.4]).go(2)
    harm(tmp_path / "model.pt")
    Run(tmp_path, [0.9, 0.4, 0.3], resume=True).go(3)
    assert any("weights of epoch 1 are lost" in message for message in caplog.messages)
    assert load(tmp_path / "model.pt")["info"]["score"] == 0.3
    read_checkpoint(tmp_path / "model.pt")


# which run it was

SETTINGS = {"batch_size": 2, "spatial_size": [32, 32, 16], "learning_rate": 0.1, "seed": 0}
CASES = {
    "training": [{"image": f"/data/images/{i}.nii", "label": f"/data/labels/{i}.nii"} for i in range(3)],
    "validation": [{"image": "/data/images/9.nii", "label": "/data/labels/9.nii"}],
}


def moved_cases():
    return {
        split: [{key: path.replace("/data", "/mnt/x") for key, path in case.items()} for case in cases]
        for split, cases in CASES.items()
    }


@pytest.mark.parametrize(
    "now, words",
    [
        ({"settings": {**SETTINGS, "batch_size": 4}}, ["batch_size was 2, is 4"]),
        ({"settings": {**SETTINGS, "spatial_size": (32, 32, 32)}}, ["spatial_size was [32, 32, 16], is [32, 32, 32]"]),
        (
            {"settings": {**SETTINGS, "seed": 1, "learning_rate": 0.2}},
            ["seed was 0, is 1", "learning_rate was 0.1, is"],
        ),
        ({"data": {**CASES, "training": CASES["training"][:2]}}, ["training cases was 3, sha256", "is 2, sha256"]),
        ({"data": {**CASES, "training": CASES["training"][::-1]}}, ["training cases was 3, sha256", "is 3, sha256"]),
        ({"data": {**CASES, "validation": CASES["training"][:1]}}, ["validation cases was 1, sha256"]),
    ],
)
def test_a_changed_run_is_refused_by_name_unless_told_otherwise(now, words, tmp_path, caplog):
    options = {"settings": SETTINGS, "data": CASES}
    Run(tmp_path, [0.2], **options).go(1)
    message = refusal(Run(tmp_path, [0.2, 0.3], resume=True, **{**options, **now}).go, 2)
    assert all(word in message for word in [str(tmp_path / "last.pt"), "--resume_changed True", *words])
    assert message.count(" was ") == sum(word.count(" was ") for word in words)  # and nothing else
    assert load(tmp_path / "last.pt")["epoch"] == 1
    Run(tmp_path, [0.2, 0.3], resume=True, resume_changed=True, **{**options, **now}).go(2)
    assert load(tmp_path / "last.pt")["epoch"] == 2
    assert any(record.levelname == "WARNING" and words[0] in record.message for record in caplog.records)


def test_what_may_change_changes_without_a_word(tmp_path, caplog):
    Run(tmp_path, [0.2], settings=SETTINGS, data=CASES).go(1)
    settings = {**SETTINGS, "spatial_size": (32, 32, 16), "new_knob": 3}  # a tuple is as good as a list
    Run(tmp_path, [0.2, 0.3], resume=True, settings=settings, data=moved_cases()).go(2)
    assert load(tmp_path / "last.pt")["epoch"] == 2
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_resume_refuses_another_network(tmp_path, monkeypatch):
    Run(tmp_path, [0.2]).go(1)
    monkeypatch.setitem(globals(), "network", lambda seed=0: ImprovedUNet(features=2, levels=3, out_channels=2))
    for changed, words in ((False, "network_def was ImprovedUNet, "), (True, "another network")):
        message = refusal(Run(tmp_path, [0.2, 0.3], resume=True, resume_changed=changed).go, 2)
        assert str(tmp_path / "last.pt") in message and words in message


def test_a_state_of_an_older_version_is_taken_on_trust(tmp_path, caplog):
    Run(tmp_path, [0.2], settings=SETTINGS).go(1)
    saved = load(tmp_path / "last.pt")
    del saved["fingerprint"]
    write_checkpoint(saved, tmp_path / "last.pt")
    Run(tmp_path, [0.2, 0.3], resume=True, settings={**SETTINGS, "seed": 1}).go(2)
    assert [r.message for r in caplog.records if r.levelname == "WARNING" and "on trust" in r.message]
