"""The figures of all patients against a calculation by hand."""

import math

import pytest

from scripts.report.blocks import Box
from scripts.weeks.compare import Weeks
from scripts.weeks.motion import OrganMotion, PatientMotion, ScanMotion
from scripts.weeks.population import population, statistics
from scripts.weeks.sections import summary


def patient(name: str, *shifts: float | None, note: str = "") -> PatientMotion:
    """A patient with these shifts towards the left after the first scan."""
    organs = [OrganMotion(50.0), *(OrganMotion(50.0, 0, 0, shift, 0.0, 0.0, note=note) for shift in shifts)]
    scans = [ScanMotion(f"Week {week}", week, "", None, {"prostate": organ}) for week, organ in enumerate(organs)]
    return PatientMotion(name, "week", scans)


def test_the_figures_by_hand():
    """Means 2, -1 and 5; deviations sqrt(2), 0 and sqrt(8)."""
    found = statistics([[1, 3], [-1, -1], [3, 7]])
    assert (found.patients, found.scans, found.mean_mm) == (3, 6, pytest.approx(2))
    assert found.systematic_mm == pytest.approx(3)  # of 2, -1, 5: squares 0, 9, 9 over 2
    assert found.random_mm == pytest.approx(math.sqrt((2 + 0 + 8) / 3))
    assert found.margin_mm == pytest.approx(2.5 * 3 + 0.7 * math.sqrt(10 / 3))


def test_the_first_scan_has_no_shift_and_cut_organs_do_not_count():
    patients = [patient("a", 1.0, 3.0), patient("b", -1.0, None, -1.0), patient("c", 40.0, 40.0, note="cut")]
    found = population(patients, ["prostate"])["prostate"]
    assert (found["left_mm"].patients, found["left_mm"].scans) == (2, 4)
    assert found["left_mm"].mean_mm == pytest.approx(0.5)
    assert found["left_mm"].systematic_mm == pytest.approx(math.sqrt(4.5))
    assert found["left_mm"].random_mm == pytest.approx(1.0)
    assert found["head_mm"].margin_mm == 0


@pytest.mark.parametrize(
    "shifts, systematic, random",
    [([], False, False), ([[1.0, 2.0]], False, True), ([[1.0], [2.0]], True, False), ([[1.0], [2.0, 4.0]], True, True)],
)
def test_what_cannot_be_known_is_none(shifts, systematic, random):
    """A systematic error needs two patients, a random one a patient with two shifts, a margin both."""
    found = statistics(shifts)
    assert (found.systematic_mm is not None, found.random_mm is not None) == (systematic, random)
    assert (found.margin_mm is not None) == (systematic and random)


@pytest.mark.parametrize("whole, words", [(12, ""), (9, "Look at the number of patients of every organ.")])
def test_an_organ_that_few_patients_have_whole_is_warned_of(whole, words):
    patients = [patient(str(n), 1.0, 3.0, note="cut" if n >= whole else "") for n in range(12)]
    weeks = Weeks(patients, [], ["background", "prostate"], ["prostate"], population(patients, ["prostate"]))
    boxes = [block for block in summary(weeks).blocks if isinstance(block, Box)]
    assert [box.blocks[0].text.endswith(words) for box in boxes] == [True] * bool(words)
