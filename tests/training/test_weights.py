"""Weights on disk: a plain state dict with a description beside it; refused where either is not what was written."""

import json
import logging
import re

import pytest
import torch
from checkpoint_samples import INFO, NAMES, flip, names, network, same
from helpers import refusal
from ignite.engine import Engine

from scripts.training.best_model import BestModel
from scripts.training.checkpoint_files import write_checkpoint
from scripts.training.weights import load_weights, read_weights
from scripts.training.weights_info import info_file, rename_previous_weights, write_ensemble, write_weights


@pytest.fixture
def saved(tmp_path):
    """A file as training writes it, and the network in it."""
    made = network()
    write_weights(made.state_dict(), INFO, tmp_path / "model.pt")
    return tmp_path / "model.pt", made


def change(file, **values) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **values}))


def test_weights_are_a_plain_state_dict_with_a_description_beside_them(saved):
    file, made = saved
    assert names(file.parent) == ["model.json", "model.pt"]
    plain = torch.load(file, weights_only=True)
    assert plain.keys() == made.state_dict().keys() and all(isinstance(value, torch.Tensor) for value in plain.values())
    found = read_weights(file)
    assert found.info == INFO and found.notes == [] and found.files == [file]


def test_weights_are_loaded_and_named(saved, caplog):
    file, made = saved
    other = network(1)
    assert not same(made, other)
    with caplog.at_level(logging.INFO):
        load_weights(str(file), other, NAMES)
    assert same(made, other)
    assert caplog.messages == [f"weights: {file}, trained on phantoms (epoch 7, validation Dice 0.812)"]


def test_values_of_a_program_are_written_as_they_are_read(tmp_path):
    """A size that a call from Python gives as a tuple is a list, in model.json and in what a checkpoint holds."""
    made = BestModel(str(tmp_path), network(), Engine(lambda *_: None), "dice", {**INFO, "spatial_size": (8, 8, 4)})
    assert made.info["spatial_size"] == [8, 8, 4]
    made.keep_start()
    assert read_weights(tmp_path / "model.pt").info["spatial_size"] == [8, 8, 4]


@pytest.mark.parametrize("size, warned", [([8, 8, 4], False), ((16, 8, 4), True)])
def test_another_size_than_in_the_training_is_warned_of(size, warned, saved, caplog):
    file, made = saved
    write_weights(made.state_dict(), {**INFO, "spatial_size": [8, 8, 4]}, file)
    load_weights(str(file), network(1), NAMES, size)
    expected = f"{file}: trained with spatial_size [8, 8, 4], this run has [16, 8, 4], which mostly costs accuracy; "
    found = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert found == ([expected + 'say --spatial_size "[8, 8, 4]" for the same'] if warned else [])


@pytest.mark.parametrize("described", [False, "but another file"])
def test_weights_without_a_description_are_used_with_a_warning(described, saved, caplog):
    file, made = saved
    other = network(1)
    if described:
        change(info_file(file), networks=[{"file": "other.pt", "sha256": "0" * 64}])
    else:
        info_file(file).unlink()
    with caplog.at_level(logging.INFO):
        load_weights(str(file), other, ["any", "names"])
    assert same(made, other)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert f"{file}: no model.json beside it" in caplog.messages[0]
    assert f"{file}: its class names are not known, so they can't be verified" in caplog.messages[1]
    assert "trained on unknown data" in caplog.messages[2]


def test_files_of_an_older_version_are_used_with_a_note(tmp_path, caplog):
    file, made, other = tmp_path / "model.pt", network(), network(1)
    write_checkpoint({"model": made.state_dict(), "info": INFO}, file)
    (tmp_path / "model.pt.sha256").write_text("0" * 64 + "  model.pt\n")
    with caplog.at_level(logging.INFO):
        load_weights(str(file), other, NAMES)
    assert same(made, other) and len(caplog.messages) == 2
    assert f"{file}: of an older version of this bundle" in caplog.messages[0] and "0.812" in caplog.messages[1]
    assert "trained for the classes" in refusal(load_weights, str(file), other, ["background", "bones"])


def test_several_networks_of_an_older_version(tmp_path):
    members = [network(seed) for seed in (1, 2)]
    first, second = (member.state_dict() for member in members)
    write_checkpoint({"model": first, "info": INFO, "more": [second]}, tmp_path / "model.pt")
    filled = [network(seed) for seed in (3, 4)]
    load_weights(str(tmp_path / "model.pt"), filled, NAMES)
    assert all(map(same, members, filled))


@pytest.mark.parametrize("more", [5, ["weights"], {"weight": 1}, [{"w": 1}]])
def test_further_networks_that_are_none(more, tmp_path):
    write_checkpoint({"model": network().state_dict(), "more": more}, tmp_path / "model.pt")
    message = refusal(read_weights, tmp_path / "model.pt")
    assert str(tmp_path / "model.pt") in message and ("'more' is no list of weights" in message or "'w'" in message)


@pytest.mark.parametrize("info", [5, {"class_names": "body"}, {"epoch": "7"}, {"ranges": {"body": 3}}])
def test_information_of_an_older_version_that_is_none(info, tmp_path):
    write_checkpoint({"model": network().state_dict(), "info": info}, tmp_path / "model.pt")
    assert str(tmp_path / "model.pt") in refusal(read_weights, tmp_path / "model.pt")


def test_no_weights_yet(tmp_path):
    message = refusal(load_weights, str(tmp_path / "model.pt"), network(), NAMES)
    assert str(tmp_path / "model.pt") in message and "run training" in message and "--ckpt_dir" in message


@pytest.mark.parametrize("described", [True, False])
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
def test_files_that_are_something_else(content, word, described, saved):
    """Each is named for what it is, whether or not a description says that it is not what was written."""
    file, _ = saved
    file.write_bytes(content if isinstance(content, bytes) else file.read_bytes()[:content])
    if not described:
        info_file(file).unlink()
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and word in message


@pytest.mark.parametrize(
    "content, word",
    [
        (bytes(1000), "not a readable checkpoint"),
        (b"PK\5\6" + bytes(18), "not a readable checkpoint"),  # a zip archive without members
        ({"state_dict": {}}, "holds a dict under the key 'state_dict', expected a state dict"),
        ([1, 2], "holds a list, expected a dictionary"),
        ({}, "holds no weights"),
        ({"model": {}}, "holds no weights"),
        ({"model": 5}, "holds a int under the key 'model'"),
        ({"w": torch.ones(2)}, "another network"),
    ],
)
def test_files_that_are_no_weights(content, word, saved):
    file, _ = saved
    info_file(file).unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file) in message and word in message


@pytest.mark.parametrize(
    "change_to, words",
    [
        ({"networks": [{"file": "model.pt", "sha256": "0" * 64}]}, ["model.pt: its sha256 is", "delete", "model.json"]),
        ({"networks": []}, ["networks is []", "expected a list of"]),
        ({"networks": None}, ["networks is None"]),
        ({"networks": [{"file": "../model.pt", "sha256": "0" * 64}]}, ["networks is", "a name without a folder"]),
        ({"networks": [{"file": "model.pt", "sha256": "0" * 63 + "\n"}]}, ["networks is"]),
        ({"class_names": "body"}, ["class_names is 'body', expected a list of names"]),
        ({"class_names": [1, 2]}, ["class_names is [1, 2]"]),
        ({"trained_on": 5}, ["trained_on is 5, expected a text"]),
        ({"spatial_size": [8, 8.5]}, ["spatial_size is [8, 8.5], expected a list of whole numbers"]),
        ({"ranges": {"body": 3}}, ["ranges is {'body': 3}"]),
        ({"ranges": {"body": {"ml": ["a", 2], "pieces": 1, "border": 0}}}, ["ranges is"]),
        ({"ranges": {"body": {"ml": [1, 2], "border": 0}}}, ["ranges is"]),
        ({"epoch": "seven"}, ["epoch is 'seven', expected a whole number"]),
        ({"score": "high"}, ["score is 'high', expected a number"]),
        ({"score": True}, ["score is True"]),
        ({"replaced": 3}, ["replaced is a int"]),
        ({"replaced": {"networks": 1}}, ["networks is 1"]),
        ("", ["not readable as JSON"]),
        ("[1]", ["expected a JSON object"]),
        ("{" * 100_000, ["not readable as JSON"]),
        ('{"a":' * 100_000, ["nested too deeply"]),
    ],
)
def test_a_description_that_is_not_what_was_written(change_to, words, saved):
    file, _ = saved
    if isinstance(change_to, str):
        info_file(file).write_text(change_to)
    else:
        change(info_file(file), **change_to)
    message = refusal(load_weights, str(file), network(), NAMES)
    assert str(file.parent) in message and all(word in message for word in words) and len(message) < 500
    info_file(file).unlink()
    load_weights(str(file), network(), NAMES)  # it is needed for nothing but the checks


def test_a_flipped_bit_is_found_with_and_without_the_description(saved):
    file, _ = saved
    flip(file, 4 * file.stat().st_size)
    assert "damaged" in refusal(read_weights, file)
    info_file(file).unlink()
    assert "damaged" in refusal(read_weights, file)


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_a_kill_between_any_two_steps_leaves_weights_that_are_described(killed_after, saved, monkeypatch):
    """The description of both weights, the weights, the description of the new ones."""
    file, made = saved
    other, steps = network(1), []

    def replace(source, target):
        if len(steps) == killed_after:
            raise KeyboardInterrupt
        steps.append(target.name)
        source.replace(target)

    monkeypatch.setattr("scripts.core.files.replace_file", replace)
    with pytest.raises(KeyboardInterrupt):
        write_weights(other.state_dict(), {**INFO, "epoch": 8}, file)
    monkeypatch.undo()
    assert steps == ["model.json", "model.pt"][:killed_after]
    found, filled = read_weights(file), network(2)
    load_weights(str(file), filled, NAMES)
    is_new = killed_after == 2
    assert found.info["epoch"] == (8 if is_new else 7) and same(filled, other if is_new else made)
    write_weights(network(3).state_dict(), {**INFO, "epoch": 9}, file)
    assert read_weights(file).info["epoch"] == 9 and "replaced" not in info_file(file).read_text()


def test_older_files_are_renamed_with_their_description(saved):
    file, _ = saved
    (file.parent / "model.pt.sha256").write_text("of an older version")
    rename_previous_weights(file)
    assert names(file.parent) == ["model.1.json", "model.1.pt"]
    found = read_weights(file.parent / "model.1.pt")
    assert found.info == INFO and found.notes == []
    rename_previous_weights(file)  # nothing there any more
    assert names(file.parent) == ["model.1.json", "model.1.pt"]


def test_several_networks_are_files_and_one_list(tmp_path):
    members = [network(seed).state_dict() for seed in (1, 2)]
    write_ensemble(members, INFO, tmp_path / "both.json")
    assert names(tmp_path) == ["both.json", "both_1.pt", "both_2.pt"]
    found = read_weights(tmp_path / "both.json")
    assert found.info == INFO and found.files == [tmp_path / "both_1.pt", tmp_path / "both_2.pt"]
    for weights, expected in zip(found.networks, members, strict=True):
        assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert "holds 2 networks, expected 1" in refusal(load_weights, str(tmp_path / "both.json"), network(), NAMES)
    (tmp_path / "both_2.pt").write_bytes((tmp_path / "both_1.pt").read_bytes())
    assert "both_2.pt: its sha256 is" in refusal(read_weights, tmp_path / "both.json")
    (tmp_path / "both_2.pt").unlink()
    assert "both_2.pt: both.json lists it, but it is not there" in refusal(read_weights, tmp_path / "both.json")


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
    reason = message.partition("(")[2].rpartition(")")[0]
    assert re.fullmatch(r"[\w.]+ has the shape \[[\d, ]+\], expected \[[\d, ]+\]|(it has no|found) [\w.]+.*", reason)
