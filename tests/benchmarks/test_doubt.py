"""The script that compares expected with true Dice: who teaches whom, and its figures."""

import importlib
import json
import sys

import numpy as np
import pytest
from conftest import ROOT

from scripts.doubt.signs import SIGNS


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("doubt")


def write_run(folder, first: int, count: int = 20) -> None:
    """An evaluation in which the signs say all of the Dice, also of the cases made worse."""
    rng = np.random.default_rng(first)

    def signs(dice: float) -> dict:
        return {"organ": dict.fromkeys(SIGNS, 0.1) | dict.fromkeys(("sure", "overlap", "agreement", "least"), dice)}

    cases = []
    for number in range(first, first + count):
        dice, low = float(rng.uniform(0.7, 0.95)), float(rng.uniform(0.1, 0.6))
        cases.append({
            "case": f"c{number}", "patient": f"p{number}", "signs": signs(dice), "status": {"1": "scored"},
            "metrics": {"1": {"Dice": dice, "truth_ml": 10.0, "predicted_ml": 10.0}},
            "worse": [{"signs": signs(low), "dice": {"organ": low}}],
        })  # fmt: skip
    folder.mkdir()
    content = {"class_names": ["background", "organ"], "metric_per_case": cases}
    (folder / "metrics.json").write_text(json.dumps(content))


def test_the_table_of_runs_that_teach_each_other(script, tmp_path, monkeypatch, capsys):
    for number in range(3):
        write_run(tmp_path / f"run{number}", 20 * number)
    runs = [str(tmp_path / f"run{number}") for number in range(3)]
    monkeypatch.setattr(sys, "argv", ["doubt.py", "organs", *runs, "--output", str(tmp_path / "out")])
    script.main()
    (row,) = json.loads((tmp_path / "out" / "doubt.json").read_text())["rows"]
    figures = row["figures"]
    assert row["cases"] == 60 and figures["error"] < 0.01 and 0.8 < figures["Dice held"] <= 1
    assert figures["volume held"] == 1 and figures["expected Dice, worse too"] == 1
    assert row["ci"]["error"][0] <= figures["error"] <= row["ci"]["error"][1]
    assert "| organs | organ | 60 |" in capsys.readouterr().out
    script.main()  # the same set again takes the place of its old rows
    assert len(json.loads((tmp_path / "out" / "doubt.json").read_text())["rows"]) == 1


def test_patients_of_one_run_are_dealt_into_parts(script, tmp_path):
    write_run(tmp_path / "run", 0, 24)
    names, parts = script.cases_in_parts([tmp_path / "run"])
    patients = [{case["patient"] for case in part} for part in parts]
    assert names == ["organ"] and len(parts) == script.PARTS and sum(map(len, patients)) == 24
    assert len(set.union(*patients)) == 24
    with pytest.raises(SystemExit, match="too few patients"):
        script.predictions([parts[0], parts[1][:2]], "organ", "1")


def test_the_area_under_the_curve(script):
    true = np.linspace(0.1, 1, 20)
    assert script.area(true, true) == 1 and script.area(true, -true) == 0
    assert script.area(true, np.ones(20)) == 0.5
