"""The script that trains and scores the folds of the hippocampus: its lists, its commands, its table."""

import importlib
import json
import math
import shlex
import sys
import time
from argparse import Namespace

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import BUNDLE, CONFIGS, ROOT
from helpers import stubs

from scripts.training.weights import read_weights
from scripts.training.weights_info import write_weights

NAMES = [f"hippocampus_{n:03}" for n in range(1, 9)]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("hippocampus")


@pytest.fixture
def data(tmp_path):
    """Eight cases and two folds."""
    folder = tmp_path / "data"
    stubs(folder, [f"{part}/{name}.nii.gz" for part in ("imagesTr", "labelsTr") for name in NAMES])
    (folder / "folds.json").write_text(json.dumps({"fold0": NAMES[:3], "fold1": NAMES[3:6]}))
    return folder


@pytest.mark.parametrize("part, scored", [("fold0", NAMES[:3]), ("fold1", NAMES[3:6])])
def test_a_fold_trains_on_all_others(script, data, part, scored):
    made = script.datalist(data, part)
    listed = {split: [entry["patient"] for entry in made[split]] for split in ("training", "validation", "test")}
    assert listed == {"training": [name for name in NAMES if name not in scored], "validation": scored, "test": []}
    assert all((data / entry[key]).is_file() for entry in made["training"] for key in ("image", "label"))
    assert f"{len(NAMES) - len(scored)} cases" in made["description"] and "CC-BY-SA" in made["description"]


def test_a_case_that_is_not_there_is_named(script, data):
    (data / "imagesTr" / "hippocampus_002.nii.gz").unlink()
    with pytest.raises(SystemExit, match="1 cases of folds.json are not there, the first is hippocampus_002"):
        script.datalist(data, "fold0")


def test_commands_name_files_and_knobs_that_exist(script, data, tmp_path, monkeypatch):
    ran = []
    for module in ("hippocampus", "trainings"):
        monkeypatch.setattr(f"{module}.execute", lambda title, command, deadline: ran.append(command) or True)
    given = Namespace(data=data, output=tmp_path / "out", seed=3, options={"features": "8", "epochs": "2"})
    assert all(script.work(part, given, math.inf) for part in ("fold0", "fold1"))
    assert [command.split()[4] for command in ran] == ["training", "evaluating"] * 2
    known = {key for file in CONFIGS.glob("*.json") for key in json.loads(file.read_text())}
    for command in ran:
        words = shlex.split(command)
        knobs = {word[2:] for word in words if word.startswith("--")} - {"config_file"}
        assert knobs <= known
        assert words[words.index("--features") + 1] == "8" and words[words.index("--seed") + 1] == "3"
        files = json.loads(words[words.index("--config_file") + 1].replace("'", '"'))
        assert all((BUNDLE / file).is_file() for file in files)
    train, evaluate, *_ = ran
    assert '--keep_last "True"' in train and "--epochs" not in evaluate
    script.work("fold0", given, math.inf)
    assert len(ran) == 5 and "evaluating" in ran[4]  # what is trained isn't trained again
    with pytest.raises(SystemExit, match="trained by another command"):
        script.work("fold0", Namespace(**{**vars(given), "seed": 4}), math.inf)


def test_all_networks_are_left_as_files_and_their_list(script, data, tmp_path, monkeypatch):
    """In half precision, counters as they are, once all are there, with the ranges of all cases."""
    for module in ("hippocampus", "trainings"):
        monkeypatch.setattr(f"{module}.execute", lambda *_: True)
    monkeypatch.setattr(script, "PARTS", ("fold0", "fold1"))
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:4, 2:4, 2:4], labels[4:6, 4:6, 4:6] = 1, 2
    for name in NAMES:
        nib.save(nib.Nifti1Image(labels, np.eye(4)), data / "labelsTr" / f"{name}.nii.gz")
    out, weights = tmp_path / "out", {}
    total = {"measures": {"Dice": {"mean": 0.85, "ci": [0.8, 0.9]}}}
    metrics = {"about": [["Device", "CPU"], ["Versions", "torch"]], "foreground": {"n": 1}}
    metrics |= {"classes": {"anterior": total, "posterior": total}}
    metrics["metric_per_case"] = [{"case": NAMES[0], "metrics": {"1": {"Dice": 0.9}, "2": {"Dice": 0.8}}}]
    for part in script.PARTS:
        weights[part] = {"weight": torch.rand(3), "steps": torch.tensor(7)}
        (out / part / "models").mkdir(parents=True)
        (out / part / "run").mkdir()
        (out / part / "run" / "history.csv").write_text("epoch,seconds\n1,60\n")
        (out / part / "run" / "metrics.json").write_text(json.dumps(metrics))
        write_weights(weights[part], {"class_names": ["background"]}, out / part / "models" / "model.pt")
        monkeypatch.setattr(sys, "argv", ["-", str(data), "--parts", part, "--output", str(out)])
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert not ended.value.code and (out / "models" / "hippocampus.json").is_file() is (part == "fold1")
    content = read_weights(out / "models" / "hippocampus.json")
    for found, expected in zip(content.networks, weights.values(), strict=True):
        assert torch.equal(found["weight"], expected["weight"].half()) and found["steps"].dtype == torch.int64
    assert content.info["ranges"]["anterior"]["n"] == len(NAMES)
    assert f"{len(NAMES)} cases: each of 2 networks on all folds but its own" in content.info["trained_on"]


def fold(name: str, front: float, back: float, peer: dict | None = None) -> dict:
    """A row of the table, of three cases."""
    dice = {c: {"mean": value, "ci": [0.8, 0.9]} for c, value in (("anterior", front), ("posterior", back))}
    cases = {f"{name}_{n}": (front + back) / 2 + 0.01 * (n - 1) for n in range(3)}
    row = {"part": name, "cases": 3, "dice": dice, "case_dice": cases, "mean": (front + back) / 2}
    row |= {"epochs": 60, "seconds": 3000}
    return row | ({"peer": {case: value - 0.02 for case, value in cases.items()}} if peer else {})


def test_the_table_has_folds_their_mean_and_what_was_published(script):
    rows = [fold("fold0", 0.9, 0.88)]
    assert "mean of" not in script.table(rows).replace("mean of five", "").replace("mean of these", "")
    text = script.table([*rows, fold("fold1", 0.8, 0.86)])
    assert (
        "| fold0 | 3 | 0.9000 (0.800 to 0.900) | 0.8800 (0.800 to 0.900) | 0.8900 |  |  | 60 | 50 min |"
        in text.replace("| | ", "|  | ")
    )
    assert "| mean of 2 folds | | 0.8500 | 0.8700 | 0.8600 |" in text
    assert "as published | | 0.8975 | 0.8813 | 0.8894 |" in text


def test_the_outcome_of_a_fold_has_every_case_beside_that_of_another_system(script, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "trained.json").write_text('{"command": "train"}')
    (tmp_path / "processors.txt").write_text("one\n")
    (tmp_path / "run" / "history.csv").write_text("epoch,seconds\n1,60\n2,50\n")
    cases = [
        {"case": name, "metrics": {"1": {"Dice": 0.9 + n / 100}, "2": {"Dice": 0.8}}}
        for n, name in enumerate(NAMES[:2])
    ]
    total = {"measures": {"Dice": {"mean": 0.85, "ci": [0.8, 0.9]}}}
    content = {"about": [["Device", "CPU"], ["Versions", "torch"]], "foreground": {"n": 2}, "metric_per_case": cases}
    content["classes"] = {"anterior": total, "posterior": total}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(content))
    row = script.outcome("fold0", tmp_path, {NAMES[0]: 0.8, NAMES[1]: 0.9, NAMES[2]: 0.1})
    assert row["case_dice"] == pytest.approx({NAMES[0]: 0.85, NAMES[1]: 0.855}) and row["mean"] == pytest.approx(0.8525)
    assert row["peer"] == {NAMES[0]: 0.8, NAMES[1]: 0.9} and row["seconds"] == 110 and row["processors"] == ["one"]
    assert "peer" not in script.outcome("fold0", tmp_path, {NAMES[0]: 0.8})


def test_the_difference_from_another_system_is_taken_case_by_case(script):
    rows = [fold("fold0", 0.9, 0.88, peer={}), fold("fold1", 0.8, 0.86)]
    assert script.difference(rows[:1]) == "" and script.difference(rows[1:]) == ""
    rows = [fold("fold0", 0.9, 0.88, peer={"a": 1}), fold("fold1", 0.8, 0.86, peer={"a": 1})]
    assert script.difference(rows) == "+0.0200 (+0.0200 to +0.0200)"
    assert "| 0.8900 | 0.8700 | +0.0200 (+0.0200 to +0.0200) | 60 |" in script.table(rows)
    rows[1]["peer"]["fold1_0"] += 0.06
    low, high = (float(word.strip("()")) for word in script.difference(rows).split()[1::2])
    assert low < 0.01 < high <= 0.02 and script.difference(rows).startswith("+0.0100")


def test_a_command_ends_at_the_deadline(script, capsys):
    began = time.monotonic()
    assert not script.execute("-", f"{sys.executable} -c 'import time; time.sleep(600)'", began + 0.5)
    assert time.monotonic() - began < 300 and "out of time" in capsys.readouterr().out
