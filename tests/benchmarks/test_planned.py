"""The script that measures what plans are worth: its lists, its commands, its table."""

import importlib
import json
import math
import shlex
from argparse import Namespace

import pytest
from conftest import ROOT
from plan_samples import write_set

from scripts.data.datalist import choose_fold, make_datalist, read_datalist


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("planned")


def test_every_patient_is_scored_in_one_fold(script, tmp_path):
    data = write_set(tmp_path / "data", cases=12)
    seen = []
    for fold in range(script.FOLDS):
        content = script.datalist("promise12", data, fold)
        parts = {split: {entry["patient"] for entry in content[split]} for split in ("training", "validation")}
        assert not parts["training"] & parts["validation"] and len(parts["training"] | parts["validation"]) == 12
        seen += sorted(parts["validation"])
    assert len(seen) == len(set(seen)) == 12


def test_the_plan_is_made_once_and_is_all_that_a_training_is_given(script, tmp_path, monkeypatch):
    data, ran = write_set(tmp_path / "data", cases=6), []

    def execute(title, line, deadline):
        ran.append(line)
        if "scripts.plan" in line:
            (tmp_path / "promise12" / "plan.json").write_text("{}")
        return True

    monkeypatch.setattr(script, "execute", execute)
    monkeypatch.setattr("trainings.execute", execute)
    given = Namespace(data=data, output=tmp_path, seed=3, minutes_each=20)
    assert all(script.work("promise12", fold, given, math.inf) for fold in (0, 1))
    kinds = [next(word for word in ("plan", "training", "evaluating") if f"{word} " in line) for line in ran]
    assert kinds == ["plan", "training", "evaluating", "training", "evaluating"]
    words = shlex.split(ran[1])
    given_ids = {word for word in words if word.startswith("--")}
    assert given_ids == {
        "--config_file",
        "--datalist",
        "--output_dir",
        "--ckpt_dir",
        "--dataset_dir",
        "--seed",
        "--fold",
        "--resume",
        "--calibrate",
    }
    assert json.loads(words[words.index("--config_file") + 1].replace("'", '"')) == [
        "configs/train.json",
        f"{tmp_path}/promise12/plan.json",
    ]
    assert "--minutes 20" in ran[0]


def test_a_plan_with_folds_trains_on_the_same_cases(script, tmp_path):
    content = script.datalist("promise12", write_set(tmp_path / "data", cases=12), 1)
    (tmp_path / "list.json").write_text(json.dumps(script.in_folds(content)))
    found = read_datalist(tmp_path / "list.json", tmp_path / "data")
    choose_fold(found, script.SCORED, "list.json")
    for split in ("training", "validation"):
        assert {entry["patient"] for entry in found[split]} == {entry["patient"] for entry in content[split]} != set()


def test_the_pelvis_is_scored_on_the_cases_of_the_demo(script, phantoms):
    content, listed = script.datalist("pelvis", phantoms, 0), make_datalist(phantoms)
    assert content["training"] == listed["training"] and content["validation"] == listed["test"]


def test_table(script):
    row = {"set": "promise12", "ci": [0.8, 0.9], "epochs": 100, "seconds": 3000, "processors": ["A"]}
    rows = [row | {"fold": "1", "cases": 7, "dice": 0.85}, row | {"fold": "2", "cases": 21, "dice": 0.89}]
    lines = script.table([*rows, row | {"set": "pelvis", "fold": "0", "cases": 3, "dice": 0.9}]).splitlines()
    assert len(lines) == 6 and "fold 1 | 7 | 0.8500 (0.800 to 0.900) | 0.889" in lines[2]
    assert lines[2].endswith("| 100 | 50 min | A |")
    assert "2 folds | 28 | 0.8800 | 0.889" in lines[4] and lines[5].startswith("| synthetic male pelvis, fold 0 |")
