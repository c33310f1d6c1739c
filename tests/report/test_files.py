"""From records to files: the order of cases, undefined values, codes, and what is left out."""

import json
import math

import numpy as np
import pytest
from helpers import measured, refusal, rows

from scripts.report.files import average, build, metrics, read_history, write
from scripts.report.records import measure_case
from scripts.report.schema import Motion
from scripts.report.tables import motion_table

NAMES = ["background", "body", "prostate"]


def record(name, value=1, truth_value=1, **options):
    """A cube of one class in the truth and one in the prediction; 0 is none."""
    truth, prediction = (np.zeros((6, 6, 6), np.uint8) for _ in range(2))
    truth[1:4, 1:4, 1:4], prediction[2:5, 1:4, 1:4] = truth_value, value
    return measure_case(name, prediction, truth, np.eye(4), NAMES, **options)


RECORDS = [
    record("Case_006_Week0"),
    record("Case_004_Week1", value=2),
    record("Case_004_Week0", value=2, truth_value=2),
    record("Case_005_Week0", value=0, truth_value=0),
]


def test_cases_are_sorted_and_counted():
    report = build(RECORDS, NAMES, [["Split", "test"]])
    assert [case.case for case in report.cases] == sorted(case.case for case in RECORDS)
    body, prostate = (report.summary.classes[name] for name in NAMES[1:])
    assert [getattr(body, key) for key in ("n", "missed", "absent", "false_alarms")] == [2, 1, 2, 0]
    assert [getattr(prostate, key) for key in ("n", "missed", "absent", "false_alarms")] == [1, 0, 2, 1]
    assert prostate.false_alarm_ml == pytest.approx(0.027)
    assert report.summary.worst.case == "Case_004_Week1" and report.summary.worst.status == "missed"


def test_what_is_not_defined_is_empty_in_the_table_and_nan_in_json(tmp_path):
    write(build(RECORDS, NAMES, []), tmp_path)
    dice, distance = (measured(tmp_path / "metrics.csv", m) for m in ("Dice", "hd95_mm"))
    assert dice["Case_004_Week1"]["body"] == 0 and math.isnan(distance["Case_004_Week1"]["body"])
    assert math.isnan(dice["Case_005_Week0"]["body"])
    statuses = {(row["case"], row["class"]): row["status"] for row in rows(tmp_path / "metrics.csv")}
    assert statuses["Case_004_Week1", "body"] == "missed" and statuses["Case_004_Week1", "prostate"] == "false alarm"
    written = json.loads((tmp_path / "metrics.json").read_text())
    absent = next(case for case in written["metric_per_case"] if case["patient"] == "005")
    assert math.isnan(absent["metrics"]["1"]["Dice"]) and absent["metrics"]["1"]["n_ref"] == 0
    assert absent["status"] == {"1": "absent", "2": "absent"}
    assert written["mean"]["1"]["Dice"] == pytest.approx(np.mean([0, 2 / 3]))
    assert written["mean"]["1"]["hd95_mm"] == pytest.approx(1)
    for value, name in enumerate(NAMES[1:], start=1):
        for measure in ("truth_ml", "predicted_ml", "difference_ml"):
            known = written["classes"][name]["measures"][measure]["mean"]
            assert written["mean"][str(value)][measure] == pytest.approx(known)


def test_a_table_of_motion_that_is_cut_short_is_whole_in_the_file(monkeypatch):
    monkeypatch.setattr("scripts.report.tables.MOST_ROWS", 1)
    rows = [("004", f"Week {n}", "bladder", [10.0 * n, 1.0, 2.0, None, 5.0, 0.5], "touches the border") for n in (1, 2)]
    report = build(RECORDS, NAMES, [], motion=Motion(rows))
    assert motion_table(report.motion).caption.endswith("the first 1 of 2, the others are in metrics.json")
    first, second = metrics(report)["motion"]
    assert (second["patient"], second["scan"], second["organ"], second["note"]) == ("004", *rows[1][1:3], rows[1][4])
    assert (first["change_percent"], second["change_percent"], second["head_mm"]) == (10, 20, None)
    assert (second["left_mm"], second["surface_max_mm"], second["residual_mm"]) == (1, 5, 0.5)
    assert metrics(build(RECORDS, NAMES, []))["motion"] is None


def test_means_leave_out_what_is_not_defined():
    assert average([1.0, math.nan, None, 3.0]) == 2 and math.isnan(average([math.nan]))


def test_the_rules_and_limits_say_what_was_done():
    report = build(RECORDS, NAMES, [], tolerance_mm=1.5, trained_on="phantoms")
    assert any("within 1.5 mm" in rule for rule in report.rules)
    assert "Research use only" in report.limits[0] and report.limits[-1] == "Trained on: phantoms."


def test_codes_hide_names_paths_and_problems(tmp_path):
    origin = [["Data list", "home/smith/list.json"], ["Truth", "home/smith"], ["Split", "test"]]
    report = build(RECORDS, NAMES, origin, problems=["home/smith.nii: bad", "home/miller.nii: bad"], anonymise="word")
    write(report, tmp_path)
    assert "2 files left out" in (tmp_path / "report.md").read_text()
    assert report.about == [["Data list", "not shown"], ["Truth", "not shown"], ["Split", "test"]]
    for file in tmp_path.iterdir():
        text = file.read_text()
        assert "smith" not in text and "Case_0" not in text, file.name
    assert "2 file(s)" in report.problems[0]


def test_two_cases_of_one_code_are_refused():
    assert "two cases have the same code" in refusal(build, [*RECORDS, RECORDS[0]], NAMES, [], anonymise=True)


def test_before_the_first_epoch_there_is_no_curve(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,train_loss,val_mean_dice\n0,,0.5\n")
    assert "Training" not in write(build(RECORDS, NAMES, [], history=tmp_path / "history.csv"), tmp_path).read_text()


def test_history(tmp_path):
    assert read_history(None) is None and read_history(tmp_path / "history.csv") is None
    (tmp_path / "history.csv").write_text("epoch,train_loss\n")
    assert read_history(tmp_path / "history.csv") is None
    (tmp_path / "history.csv").write_text("epoch,train_loss\n1,0.5\n")
    assert read_history(tmp_path / "history.csv") == [{"epoch": "1", "train_loss": "0.5"}]


def test_every_file_is_there_and_says_what_it_is_not_for(tmp_path):
    page = write(build(RECORDS, NAMES, []), tmp_path)
    assert page == tmp_path / "report.html"
    assert len(metrics(build(RECORDS, NAMES, []))["metric_per_case"]) == len(RECORDS)
    for name in ("report.html", "report.md"):
        assert "esearch use only" in (tmp_path / name).read_text()
