"""Weights that a training starts from are its epoch 0: they stay in model.pt until an epoch validates better."""

import json
import logging
import os
import shutil
import signal

import pytest
import torch
from conftest import run, workflow
from helpers import rows
from ignite.engine import Events

from scripts.training.checkpoint_files import read_checkpoint
from scripts.training.weights import read_weights

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def good(phantoms, tmp_path_factory):
    """A training that is long enough for its weights to be worth something."""
    folder = tmp_path_factory.mktemp("good")
    paths = {"dataset_dir": phantoms, "output_dir": folder, "ckpt_dir": folder / "models"}
    easy = {"dropout": 0.0, "ce_weight": 1.0, "rotate_range": 0.1, "noise_std": 0.05, "batch_size": 1}
    run("train", ["train.json"], **paths, **easy, epochs=8, val_interval=8, learning_rate=0.01)
    return folder


def given(folder, phantoms, trained, **overrides) -> dict:
    paths = {"dataset_dir": phantoms, "output_dir": folder / "out", "ckpt_dir": folder / "models"}
    return {**paths, "datalist": trained / "datalist.json", "epochs": 1, **overrides}


def loader(file) -> dict:
    """MONAI's handler as MONAI Label puts it in front of the others."""
    return {
        "_target_": "CheckpointLoader",
        "load_path": str(file),
        "load_dict": {"model": "$@network"},
        "strict": False,
    }


def prepared(way: str, files: list[str], file, **overrides):
    """A training that starts from a file, by the knob or by MONAI's handler."""
    made = workflow("train", files, **overrides, **({"pretrained": file} if way == "knob" else {}))
    if way == "loader":
        made.parser["train::handlers"] = [loader(file), *made.parser["train::handlers"]]
    made.initialize()
    return made


def finish(made) -> None:
    made.run()
    made.finalize()


def kept(folder) -> tuple[dict, dict]:
    found = read_weights(folder / "models" / "model.pt")
    return found.networks[0], found.info


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


WORSE = {"learning_rate": 3.0}  # destroys whatever it starts from


@pytest.mark.parametrize("files", [["train.json"], ["train.json", "strong.json"]], ids=["plain", "averaged"])
@pytest.mark.parametrize("way", ["knob", "loader"])
def test_a_worse_model_does_not_take_its_place(way, files, phantoms, good, tmp_path, caplog):
    file = good / "models" / "model.pt"
    start, about = read_weights(file).networks[0], read_weights(file).info
    harmful = {"averaging::momentum": 0.99, "half": False, **WORSE} if len(files) > 1 else WORSE
    made = prepared(way, files, file, **given(tmp_path, phantoms, good, **harmful))
    finish(made)
    weights, info = kept(tmp_path)
    assert same(weights, start) and info["epoch"] == 0 and info["score"] == pytest.approx(about["score"], abs=1e-4)
    assert "has not bettered them" in info["trained_on"]
    assert ("(epoch 8, validation Dice" in info["trained_on"]) is (way == "knob")  # a handler does not tell
    (line,) = [message for message in caplog.messages if message.startswith("finished at epoch 1")]
    assert "no epoch validated better than the weights that the training started from (val_mean_dice 0." in line
    table = rows(tmp_path / "out" / "history.csv")
    assert [row["epoch"] for row in table] == ["0", "1"]
    assert float(table[0]["val_mean_dice"]) == pytest.approx(info["score"], abs=1e-4) and not table[0]["train_loss"]
    assert float(table[1]["val_mean_dice"]) < info["score"]
    assert not same(read_checkpoint(tmp_path / "models" / "last.pt")["model"], start)


@pytest.mark.parametrize("way", ["knob", "loader"])
def test_a_better_model_does(way, phantoms, good, tmp_path, caplog, monkeypatch):
    file = good / "models" / "model.pt"
    made = prepared(way, ["train.json"], file, **given(tmp_path, phantoms, good))
    best = made.parser.get_parsed_content("best_model")
    update = best.update

    def poor_start(epoch):
        update(epoch)
        if epoch == 0:
            best.best["score"] = 0.0

    monkeypatch.setattr(best, "update", poor_start)
    finish(made)
    weights, info = kept(tmp_path)
    assert info["epoch"] == 1 and not same(weights, read_weights(file).networks[0])
    assert "started from weights trained on" in info["trained_on"] and "has not" not in info["trained_on"]
    assert any("best val_mean_dice" in message and "at epoch 1" in message for message in caplog.messages)


@pytest.mark.parametrize("keep_last", [False, True])
def test_a_server_finds_weights_while_it_trains(keep_last, phantoms, good, tmp_path):
    """Before the first epoch ends, whether or not the start is validated; the server looks for it at each image."""
    file = shutil.copytree(good / "models", tmp_path / "models") / "model.pt"
    start, found = read_weights(file).networks[0], []
    made = prepared("loader", ["train.json"], file, **given(tmp_path, phantoms, good, keep_last=keep_last))

    def look(engine) -> None:
        found.append(same(read_weights(file).networks[0], start))

    made.parser.get_parsed_content("validate::evaluator").add_event_handler(Events.STARTED, look)
    made.parser.get_parsed_content("train::trainer").add_event_handler(Events.ITERATION_COMPLETED(once=1), look)
    finish(made)
    assert found[:2] == [True, True]  # at the validation of the start and in epoch 1, or in epoch 1 and after it


def test_in_place_as_monai_label_trains(phantoms, good, tmp_path):
    """The handler reads model.pt of the folder that the training writes to; the file before is kept beside it."""
    file = shutil.copytree(good / "models", tmp_path / "models") / "model.pt"
    start = read_weights(file).networks[0]
    finish(prepared("loader", ["train.json"], file, **given(tmp_path, phantoms, good, **WORSE)))
    assert same(read_weights(file).networks[0], start) and read_weights(file).info["epoch"] == 0
    assert same(read_weights(file.with_name("model.1.pt")).networks[0], start)


def test_nothing_of_this_happens_without_given_weights_or_validation(phantoms, good, tmp_path):
    file = good / "models" / "model.pt"
    run("train", ["train.json"], **given(tmp_path / "random", phantoms, good))
    assert [row["epoch"] for row in rows(tmp_path / "random" / "out" / "history.csv")] == ["1"]
    last = given(tmp_path / "last", phantoms, good, keep_last=True, **WORSE)
    run("train", ["train.json"], pretrained=file, **last)
    assert [row["epoch"] for row in rows(tmp_path / "last" / "out" / "history.csv")] == ["1"]
    assert kept(tmp_path / "last")[1]["epoch"] == 1
    content = json.loads((good / "datalist.json").read_text()) | {"validation": []}
    (tmp_path / "none.json").write_text(json.dumps(content))
    none = given(tmp_path / "none", phantoms, good, keep_last=True, datalist=tmp_path / "none.json")
    run("train", ["train.json"], pretrained=file, **none)
    assert kept(tmp_path / "none")[1]["epoch"] == 1


def test_a_loader_that_loads_nothing_is_no_start(phantoms, good, tmp_path):
    """strict=False with weights of another network changes no weight."""
    file = tmp_path / "other.pt"
    torch.save({"other.weight": torch.rand(3)}, file)
    finish(prepared("loader", ["train.json"], file, **given(tmp_path, phantoms, good)))
    assert [row["epoch"] for row in rows(tmp_path / "out" / "history.csv")] == ["1"]


@pytest.mark.parametrize("way", ["knob", "loader"])
def test_a_resumed_run_knows_the_score_to_beat(way, phantoms, good, tmp_path):
    """It ends as an unbroken one: the same history, the same model.pt, the same count towards an early stop."""
    file, folders = good / "models" / "model.pt", {name: tmp_path / name for name in ("whole", "broken")}
    common = {**WORSE, "early_stop_patience": 3}
    finish(prepared(way, ["train.json"], file, **given(folders["whole"], phantoms, good, **{**common, "epochs": 2})))
    for more in ({"epochs": 1}, {"epochs": 2, "resume": True}):
        finish(prepared(way, ["train.json"], file, **given(folders["broken"], phantoms, good, **{**common, **more})))
    tables = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder / "out" / "history.csv")]
        for folder in folders.values()
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 3
    (one, about), (other, known) = map(kept, folders.values())
    assert same(one, other) and about["trained_on"] == known["trained_on"] and about["score"] == known["score"]
    early = [read_checkpoint(folder / "models" / "last.pt")["early_stop"] for folder in folders.values()]
    assert early[0] == early[1] and early[0]["counter"] == 2 and early[0]["best_score"] == pytest.approx(about["score"])


def test_a_signal_during_the_first_validation_ends_the_run(phantoms, good, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = prepared("knob", ["train.json"], good / "models" / "model.pt", **given(tmp_path, phantoms, good))
    evaluator = made.parser.get_parsed_content("validate::evaluator")
    evaluator.add_event_handler(Events.STARTED, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        made.run()
    made.finalize()
    assert caught.value.code == 143
    assert any("before epoch 1: no epoch was complete, so nothing is saved" in message for message in caplog.messages)
