"""The record of one case, with truth and without."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import refusal

from scripts.report.records import anonymous, measure_case
from scripts.report.schema import CaseRecord

NAMES = ["background", "body", "prostate"]
AFFINE = np.array([[-2.0, 0.6, 0, 5], [0, 2.0, 0, -7], [0, 0, 3.0, 1], [0, 0, 0, 1]])  # sheared: 12 cubic mm


def labels() -> np.ndarray:
    made = np.zeros((8, 9, 10), np.uint8)
    made[1:7, 1:8, 1:9] = 1
    made[3:5, 3:5, 3:5] = 2
    return made


def test_with_truth():
    prediction = np.minimum(labels(), 1)
    record = measure_case("dir/Case_004_Week2_LFOV.nii.gz", prediction, labels(), AFFINE, NAMES, seconds=1.5)
    assert [getattr(record, key) for key in ("case", "patient", "week", "seconds")] == [
        "Case_004_Week2_LFOV",
        "004",
        2,
        1.5,
    ]
    prostate = record.measures["prostate"]
    assert prostate["status"] == "missed" and prostate["truth_ml"] == pytest.approx(8 * 0.012)
    assert record.warnings == []
    assert record.pictures == {}


def test_without_truth():
    known = {"body": {"ml": [1, 2], "pieces": 1, "border": 1.0, "n": 4}}
    record = measure_case("scan.nii", np.minimum(labels(), 1), None, AFFINE, NAMES, known=known)
    assert (record.patient, record.week) == ("scan", None)
    assert record.measures["body"] == {"status": "predicted", "predicted_ml": pytest.approx(336 * 0.012)}
    assert record.measures["prostate"] == {"status": "not found", "predicted_ml": 0.0}
    assert [line.split(":")[0] for line in record.warnings] == ["body", "prostate"]


def test_a_list_knows_the_patient():
    record = measure_case("Case_004_Week2.nii", labels(), labels(), AFFINE, NAMES, patient="x")
    assert record.patient == "x"


def test_codes_for_names():
    record = measure_case("Case_004_Week2.nii", labels(), labels(), AFFINE, NAMES)
    hidden = anonymous(replace(record, prediction_file="Case_004_Week2_seg.nii"), "word")
    assert "004" not in str(replace(hidden, measures={})) and hidden.measures == record.measures
    assert hidden.week == 2 and hidden.case.startswith(hidden.patient)
    assert anonymous(hidden, "another word") == hidden


def test_a_record_comes_back_from_json():
    record = measure_case("Case_004_Week2.nii", np.minimum(labels(), 1), labels(), AFFINE, NAMES, seconds=1.5)
    record.pictures = {"": {"plane": "axial", "slice": 3, "axis": 2, "tiles": {"image": "abc"}}}
    back = CaseRecord.from_dict(json.loads(json.dumps(record.to_dict())), "file", NAMES)
    assert str(back) == str(record)  # as text, because NaN is not equal to itself


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda content: content.pop("warnings"), "expected those of a case's record"),
        (lambda content: content.update(score=1), "expected those of a case's record"),
        (lambda content: content.update(measures=[]), "found measures of []"),
        (lambda content: content["measures"].pop("body"), "found measures of ['prostate']"),
    ],
)
def test_a_record_of_another_version_is_refused(change, words):
    content = measure_case("Case_004_Week2.nii", labels(), labels(), AFFINE, NAMES).to_dict()
    change(content)
    message = refusal(CaseRecord.from_dict, content, "out/.cases/a.json", NAMES)
    assert message.startswith("out/.cases/a.json: ") and words in message and "delete this file" in message
