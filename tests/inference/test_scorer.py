"""The handler of the evaluation: one record per case for any batch size, patients from the data list, the report."""

import json
import logging
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import measured, save_labels
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.inference.journal import Journal
from scripts.inference.scorer import CaseScorer
from scripts.report import records

pytestmark = pytest.mark.usefixtures("no_charts")
NAMES = ["background", "body", "prostate"]
CASES = ["Case_004_Week0", "Case_004_Week1", "Case_012_Week3"]


def maps() -> list[tuple]:
    """Truth and prediction of three cases: half of the body found; prostate missed; prostate where there is none."""
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[1:5, 1:5, 1:5] = 1
    half = truth.copy()
    half[3:, :, :] = 0
    with_prostate, false = truth.copy(), truth.copy()
    with_prostate[2:4, 2:4, 2:4] = 2
    false[2, 2, 2] = 2
    return [(truth, half), (with_prostate, truth), (truth, false)]


def evaluate(folder, order=(0, 1, 2), batch=1, resume=False, **options):
    """Runs an engine that gives prepared predictions; the images are on disk, where the handler reads them."""
    weights, listed = folder / "model.pt", folder / "datalist.json"
    network = torch.nn.Conv3d(1, 3, 1)
    info = {"trained_on": "phantoms", "epoch": 3, "score": 0.5}
    if not resume:  # other weights, and nothing would count as done
        torch.save({"model": network.state_dict(), "info": info}, weights)
    listed.write_text("{}")
    files = [save_labels(folder / "images" / f"{name}.nii.gz", np.arange(216).reshape(6, 6, 6)) for name in CASES]
    affine = torch.from_numpy(nib.load(files[0]).affine)

    def step(engine, numbers):
        if journal.is_done(str(files[numbers[0]]), "abc"):
            engine.state.batch = {"source": [str(files[numbers[0]])], "kept": True}
            return []
        engine.state.batch = [{"source": str(files[i]), "digest": "abc"} for i in numbers]
        return [
            {
                "label": MetaTensor(maps()[i][0][None], meta={"filename_or_obj": "truth.nii"}, affine=affine),
                "pred": MetaTensor(maps()[i][1][None], meta={"filename_or_obj": str(files[i])}, affine=affine),
            }
            for i in numbers
        ]

    engine = Engine(step)
    journal = Journal(str(folder / "out"), str(weights), resume=resume)
    journal.begin()
    handler = CaseScorer(
        str(folder / "out"),
        NAMES,
        journal,
        network,
        {"patients": {str(files[2]): "the same man"}, "description": "three cubes", "datalist": str(listed)},
        "test",
        torch.device("cpu"),
        **options,
    )
    handler.attach(engine)
    engine.run([order[i : i + batch] for i in range(0, len(order), batch)])
    return folder / "out", engine


@pytest.mark.parametrize("order, batch", [((0, 1, 2), 1), ((2, 0, 1), 1), ((1, 2, 0), 2), ((0, 1, 2), 3)])
def test_every_case_is_measured_once(order, batch, tmp_path):
    dice = measured(evaluate(tmp_path, order, batch)[0] / "metrics.csv")
    assert list(dice) == CASES
    body = [2 * 32 / 96, 2 * 56 / (56 + 64), 2 * 63 / 127]
    for case, expected in zip(dice.values(), body, strict=True):
        assert case["body"] == pytest.approx(expected, abs=1e-5)
    assert [case["prostate"] for case in dice.values()] == pytest.approx([np.nan, 0, np.nan], nan_ok=True)


def test_what_the_report_says_of_the_run(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        out, _ = evaluate(tmp_path)
    written = json.loads((out / "metrics.json").read_text())
    prostate = written["classes"]["prostate"]
    assert (prostate["n"], prostate["missed"], prostate["absent"], prostate["false_alarms"]) == (1, 1, 1, 1)
    assert prostate["false_alarm_ml"] == pytest.approx(0.001)
    assert (written["worst"]["case"], written["worst"]["class"]) == (CASES[1], "prostate")
    assert written["worst"]["plane"] in ("axial", "coronal", "sagittal") and 2 <= written["worst"]["slice"] <= 3
    about = dict(written["about"])
    assert about["Data"] == "three cubes" and about["Model"].startswith("Conv3d, 6 parameters")
    assert about["Trained on"] == "phantoms (epoch 3, validation Dice 0.5000)"
    shown = [record.getMessage() for record in caplog.records if record.name == "scripts.inference.scorer"]
    assert shown[0].split()[:4] == ["Dice", "n", "missed", "mean"] and shown[-1] == f"report: {out / 'report.html'}"


def test_the_data_list_knows_the_patient_better_than_the_name(tmp_path):
    out, _ = evaluate(tmp_path)
    written = json.loads((out / "metrics.json").read_text())
    assert list(written["patients"]) == ["004", "the same man"]
    assert written["patients"]["004"]["scans"] == 2


def test_the_time_is_the_predictions_alone(tmp_path, monkeypatch):
    """Measuring and drawing, most of what happens here, isn't on the model's account; by a clock of the test's own."""
    now = 0.0

    def lasting(seconds, call):
        def slow(*args, **kwargs):
            nonlocal now
            now += seconds
            return call(*args, **kwargs)

        return slow

    monkeypatch.setattr("scripts.inference.case_handler.time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setitem(globals(), "maps", lasting(1, maps))  # a prediction asks for them twice
    monkeypatch.setattr(records, "measure_case", lasting(100, records.measure_case))
    out, _ = evaluate(tmp_path)
    seconds = [case["seconds"] for case in json.loads((out / "metrics.json").read_text())["metric_per_case"]]
    assert seconds == [2, 2, 2] and now >= 306


def test_a_tolerance_of_ones_own(tmp_path):
    for tolerance in (0.5, 5):
        out, _ = evaluate(tmp_path, tolerance_mm=tolerance)
        dice = measured(out / "metrics.csv", "surface_dice")[CASES[0]]["body"]
        assert (dice == 1) == (tolerance == 5) and dice > 0
        assert f"within {tolerance:g} mm" in (out / "report.md").read_text()


def test_a_case_that_can_not_be_measured_is_named_and_the_others_are_scored(tmp_path, monkeypatch):
    """A truth with a label that no class has."""
    good = maps()
    monkeypatch.setitem(globals(), "maps", lambda: [good[0], (good[1][0] * 4, good[1][1]), good[2]])
    out, _ = evaluate(tmp_path)
    assert list(measured(out / "metrics.csv")) == [CASES[0], CASES[2]]
    (failed,) = [case for case in json.loads((out / "run.json").read_text())["cases"] if case["fate"] == "failed"]
    assert CASES[1] in failed["image"] and "found label 8; expected 0 to 2" in failed["reason"]
    assert "found label 8" in (out / "report.html").read_text()


@pytest.mark.parametrize("spoilt", [None, b"", b"{", b"\xff\xfe", b"[]", b"{}"])
def test_a_resumed_run_measures_a_record_anew_that_is_not_as_it_was(spoilt, tmp_path, monkeypatch):
    out, _ = evaluate(tmp_path)
    before = measured(out / "metrics.csv")
    if spoilt is not None:
        (out / ".cases" / f"{CASES[1]}.json").write_bytes(spoilt)
    measured_now, real = [], records.measure_case
    monkeypatch.setattr(
        records, "measure_case", lambda *args, **kwargs: (measured_now.append(args[0]), real(*args, **kwargs))[1]
    )
    evaluate(tmp_path, resume=True)
    assert [CASES[1] in source for source in measured_now] == ([] if spoilt is None else [True])
    assert str(measured(out / "metrics.csv")) == str(before)


@pytest.mark.parametrize(
    "spoilt, words",
    [
        (b"{", "not readable as JSON"),
        (b"{}", "found the keys []"),
        (b'{"case": "a", "measures": {}}', "found the keys"),
    ],
)
def test_a_record_that_is_broken_or_old_is_one_failed_case(spoilt, words, tmp_path, monkeypatch):
    out, _ = evaluate(tmp_path)
    (out / ".cases" / f"{CASES[1]}.json").write_bytes(spoilt)
    monkeypatch.setattr(Journal, "is_done", lambda *_: True)
    evaluate(tmp_path, resume=True)
    assert list(measured(out / "metrics.csv")) == [CASES[0], CASES[2]]
    noted = {case["image"]: case for case in json.loads((out / "run.json").read_text())["cases"]}
    (failed,) = [image for image, case in noted.items() if case["fate"] == "failed"]
    assert CASES[1] in failed and words in noted[failed]["reason"]
    monkeypatch.undo()
    evaluate(tmp_path, resume=True)
    assert list(measured(out / "metrics.csv")) == CASES


def test_a_second_run_starts_anew(tmp_path):
    out, engine = evaluate(tmp_path)
    engine.run([[0]])
    assert list(measured(out / "metrics.csv")) == CASES[:1]
