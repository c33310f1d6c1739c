"""The record of one case, with truth and without."""

import numpy as np
import pytest

from scripts.report.records import anonymous, examine

NAMES = ["background", "body", "prostate"]
AFFINE = np.array([[-2.0, 0.6, 0, 5], [0, 2.0, 0, -7], [0, 0, 3.0, 1], [0, 0, 0, 1]])  # sheared: 12 cubic mm


def labels() -> np.ndarray:
    made = np.zeros((8, 9, 10), np.uint8)
    made[1:7, 1:8, 1:9] = 1
    made[3:5, 3:5, 3:5] = 2
    return made


def test_with_truth():
    prediction = np.minimum(labels(), 1)
    record = examine("dir/Case_004_Week2_LFOV.nii.gz", prediction, labels(), AFFINE, NAMES, seconds=1.5)
    assert [record[key] for key in ("case", "patient", "week", "seconds")] == ["Case_004_Week2_LFOV", "004", 2, 1.5]
    prostate = record["measures"]["prostate"]
    assert prostate["status"] == "missed" and prostate["truth_ml"] == pytest.approx(8 * 0.012)
    assert record["warnings"] == []
    assert set(record["pictures"]) == {"", "body", "prostate"}


def test_without_truth():
    known = {"body": {"ml": [1, 2], "pieces": 1, "border": 1.0, "n": 4}}
    record = examine("scan.nii", np.minimum(labels(), 1), None, AFFINE, NAMES, known=known)
    assert (record["patient"], record["week"]) == ("scan", None)
    assert record["measures"]["body"] == {"status": "predicted", "predicted_ml": pytest.approx(336 * 0.012)}
    assert record["measures"]["prostate"] == {"status": "not found", "predicted_ml": 0.0}
    assert [line.split(":")[0] for line in record["warnings"]] == ["body", "prostate"]


def test_a_list_knows_the_patient_and_pictures_can_be_left_out():
    record = examine("Case_004_Week2.nii", labels(), labels(), AFFINE, NAMES, patient="x", pictures=False)
    assert record["patient"] == "x" and record["pictures"] == {}


def test_codes_for_names():
    record = examine("Case_004_Week2.nii", labels(), labels(), AFFINE, NAMES, pictures=False)
    hidden = anonymous({**record, "prediction_file": "Case_004_Week2_seg.nii"}, "word")
    assert "004" not in str({**hidden, "measures": None}) and hidden["measures"] == record["measures"]
    assert hidden["week"] == 2 and hidden["case"].startswith(hidden["patient"])
