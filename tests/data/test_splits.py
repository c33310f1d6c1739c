"""Lists that were divided by scan are divided anew by patient."""

import pytest
from helpers import refusal

from scripts.data.splits import unshare_patients


def scans(*names):
    """Cases whose image is called as its patient and a number: A1, A2, B1."""
    return [{"image": name, "label": f"{name}_seg"} for name in names]


def divided(training, validation):
    patients = {case["image"]: case["image"][0] for case in [*training, *validation]}
    return [[case["image"] for case in side] for side in unshare_patients(training, validation, patients)]


@pytest.mark.parametrize(
    "training, validation, expected",
    [
        (["A1", "B1", "B2"], ["C1"], [["A1", "B1", "B2"], ["C1"]]),  # nobody is shared: nothing changes
        (["B2", "A1"], [], [["B2", "A1"], []]),
        (["A1", "A2", "B1"], ["B2"], [["A1", "A2"], ["B1", "B2"]]),  # the one who is cut in two
        (["A1", "B1", "C1"], ["A2", "B2", "C2"], [["C1", "C2"], ["A1", "B1", "A2", "B2"]]),  # about as many as before
        (["A1", "A2", "A3", "B1"], ["A4", "C1"], [["A1", "A2", "A3", "B1", "A4"], ["C1"]]),
        (["A1"], ["A2", "B1"], [["A1", "A2"], ["B1"]]),  # training is never left without a patient
        (["A1", "B1"], ["A2", "B2"], [["B1", "B2"], ["A1", "A2"]]),
    ],
)
def test_no_patient_is_on_both_sides(training, validation, expected):
    made = divided(scans(*training), scans(*validation))
    assert made == expected
    assert not {name[0] for name in made[0]} & {name[0] for name in made[1]}
    assert sorted(sum(made, [])) == sorted(training + validation)


def test_one_patient_can_not_be_divided():
    message = refusal(divided, scans("A1", "A2"), scans("A3"))
    assert message.startswith("all 3 scans are of patient A") and "val_split 0, keep_last" in message
