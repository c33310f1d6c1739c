"""What the scripts on slices share: folds of patients, equal time, pooled scores."""

import importlib
import json
import math

import pytest
from conftest import ROOT

from scripts.phantoms import generate

ENTRIES = [
    {"image": f"{patient}_{scan}.png", "label": f"{patient}_{scan}_mask.png", "patient": patient}
    for patient in ("a1", "a2", "b1", "b2", "b3")
    for scan in (0, 1)
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("slice_folds")


def report(folder, dice: dict, patients: dict | None = None, classes: int = 1):
    """A `metrics.json` with the Dice of every case; a list of Dice has one of each class."""
    folder.mkdir(parents=True)
    cases = [
        {
            "case": case,
            "patient": (patients or {}).get(case, case),
            "metrics": {str(i + 1): {"Dice": one} for i, one in enumerate(values if classes > 1 else [values])},
        }
        for case, values in dice.items()
    ]
    about = [["Model", "UNet, 1,000 parameters"], ["Device", "CPU"], ["Versions", "bundle 0.1.0"]]
    (folder / "metrics.json").write_text(json.dumps({"metric_per_case": cases, "about": about}))
    return folder


def test_a_patient_is_scored_in_one_fold_and_trains_in_the_others(script):
    made = [script.divide(ENTRIES, 2, fold) for fold in range(2)]
    patients = [{split: {entry["patient"] for entry in part} for split, part in one.items()} for one in made]
    assert [one["validation"] for one in patients] == [{"a1", "b1", "b3"}, {"a2", "b2"}]
    for one, of in zip(made, patients):
        assert not of["training"] & of["validation"] and len(one["training"]) + len(one["validation"]) == len(ENTRIES)


@pytest.mark.parametrize("folds", [1, 6])
def test_too_many_folds_are_refused(script, folds):
    with pytest.raises(SystemExit, match=f"{folds} folds of 5 patients: expected 2 to 5"):
        script.divide(ENTRIES, folds, 0)


def test_epochs_fill_the_minutes(script):
    """Ten cases twice an epoch are five steps of four scans, of two seconds each: six epochs are one minute."""
    assert script.steps(ENTRIES, copies=2) == 5
    assert script.epochs_within(1.0, 2.0, ENTRIES, copies=2) == 6
    assert script.epochs_within(0.99, 2.0, ENTRIES, copies=2) == 5
    assert script.epochs_within(0.01, 2.0, ENTRIES, copies=2) == 1


def test_folds_are_pooled_and_compared_on_the_cases_of_both(script, tmp_path):
    first = [report(tmp_path / "first0", {"p": 0.8, "q": 0.6})]
    other = [report(tmp_path / "other0", {"p": 0.9, "q": 0.8}), report(tmp_path / "other1", {"r": 0.1, "s": 0.2})]
    found = script.summary(other, first)
    assert (found["cases"], found["patients"]) == (4, 4) and found["dice"]["mean"] == pytest.approx(0.5)
    assert found["dice"]["median"] == pytest.approx(0.5)
    assert found["dice"]["ci"][0] < 0.5 < found["dice"]["ci"][1]
    assert found["difference"]["mean"] == pytest.approx(0.15) and found["difference"]["patients"] == 2
    assert found["difference"]["ci"] == pytest.approx([0.1, 0.2])
    assert "difference" not in script.summary(first) and "difference" not in script.summary(other[1:], first)


def test_the_mean_is_over_the_classes_and_the_interval_over_patients(script, tmp_path):
    patients = {"p1": "p", "p2": "p", "q1": "q"}
    dice = {"p1": [0.9, 0.5], "p2": [0.7, 0.3], "q1": [0.2, None]}
    found = script.summary([report(tmp_path / "run", dice, patients, classes=2)])
    assert found["classes"] == pytest.approx([0.6, 0.4]) and found["dice"]["mean"] == pytest.approx(0.5)
    assert (found["cases"], found["patients"]) == (3, 2)
    low, high = found["dice"]["ci"]
    assert low <= 0.21 and high == pytest.approx(0.6)  # a resample of q alone, a resample of p alone


def test_rows_have_what_is_scored_and_no_more(script, tmp_path):
    study = script.Study(tmp_path, tmp_path, "recipe_lgg_2d", "images", ("background", "tumour"))
    variants = {
        "one": script.Variant("as it is", scored={"mirrored": {}}),
        "two": script.Variant("changed"),
        "three": script.Variant("not trained"),
    }
    for folder, dice in (("one/0of2", {"p": 0.5}), ("one/1of2", {"q": 0.7}), ("two/1of2", {"q": 0.9})):
        report(tmp_path / folder / "run", dice)
        (tmp_path / folder / "processors.txt").write_text("zen4\n")
        (tmp_path / folder / "run" / "history.csv").write_text("epoch,seconds\n1,60\n2,120\n")
    rows = script.compared(study, variants, 2)
    assert [(row["name"], row["folds"], row["cases"]) for row in rows] == [("one", 2, 2), ("two", 1, 1)]
    assert rows[1]["difference"]["mean"] == pytest.approx(0.2) and "difference" not in rows[0]
    assert rows[0]["epochs"] == 2 and rows[0]["minutes"] == pytest.approx(3) and rows[0]["processors"] == ["zen4"]
    assert "mirrored" not in rows[0]
    for fold, dice in ((0, {"p": 0.6}), (1, {"q": 0.8})):
        report(tmp_path / f"one/{fold}of2" / "mirrored", dice)
    assert script.compared(study, variants, 2)[0]["mirrored"] == pytest.approx(0.7)


def test_a_step_is_timed_once(script, tmp_path):
    """Real steps of a tiny network, kept for the next call."""
    generate.generate(tmp_path / "data", layout="lgg_tiff", patients=2, size=(32, 32), slices=3)
    study = script.Study(tmp_path / "data", tmp_path / "out", "recipe_lgg_2d", "phantoms", ("background", "tumour"))
    variant = script.Variant("tiny", {"spatial_size": [32, 32], "widths": [2, 4]}, {"copies": 12})
    from scripts.data.layouts import find_pairs

    entries = find_pairs(str(study.data))
    found = script.seconds_a_step(study, "seconds/tiny", variant, entries, count=2)
    assert 0 < found < 60 and math.isfinite(found)
    assert script.seconds_a_step(study, "seconds/tiny", variant, []) == found
    assert not (tmp_path / "out" / "seconds" / "tiny" / "run" / "history.csv").exists()


def test_rows_of_trainings_that_are_gone_stay(script, tmp_path):
    kept = [{"name": "b", "n": 1}, {"name": "c", "n": 1}, {"name": "x"}]
    (tmp_path / "a.json").write_text(json.dumps({"rows": kept}))
    found = script.in_order([{"name": "b", "n": 2}, {"name": "a"}], tmp_path / "a.json", ["a", "b", "c"])
    assert found == [{"name": "a"}, {"name": "b", "n": 2}, {"name": "c", "n": 1}]
    assert script.in_order([], tmp_path / "none.json", ["a"]) == []
