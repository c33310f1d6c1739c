"""Which pictures a report draws: those that its page shows, and no others."""

import pytest
from samples import CLASSES, odd, records, report

from scripts.core.errors import UserError
from scripts.report.gallery import add_pictures, best_and_worst, extreme_pictures, first_pictures, warned_pictures

PLACE = {"plane": "coronal", "slice": 5, "axis": 1, "tiles": {"prediction": "abc"}}


def drawn(made) -> list[tuple[str, str]]:
    """Draws for a report; returns case and class of every picture."""
    found = []

    def draw(record, name):
        found.append((record.case, name))
        return dict(PLACE)

    add_pictures(made, draw)
    return found


def test_only_what_the_page_shows_is_drawn_and_each_once():
    made = report(records(20, 2), place=False)
    found = drawn(made)
    assert len(found) == len(set(found)) <= 9 + 2 * 5
    assert {case for case, name in found if not name} == {record.case for record in made.cases[:9]}
    extremes = {(record.case, name) for name in CLASSES[1:] for _, record in best_and_worst(made, name)}
    assert {pair for pair in found if pair[1]} == extremes
    assert len(first_pictures(made)) == 9 and len(extreme_pictures(made)) == 10
    assert [case for case, _ in found] == sorted(case for case, _ in found)


def test_the_worst_result_says_where_it_is_seen():
    made = report(records(3, 2), place=False)
    assert made.summary.worst.plane is None
    drawn(made)
    assert (made.summary.worst.plane, made.summary.worst.slice, made.summary.worst.axis) == ("coronal", 5, 1)


def test_pictures_that_records_have_are_not_drawn_again():
    made = report(records(2, 1), place=False)
    for record in made.cases:
        record.pictures = {name: dict(PLACE, slice=7) for name in ("", *CLASSES[1:])}
    assert drawn(made) == [] and made.summary.worst.slice == 7
    add_pictures(made, None)
    assert made.summary.worst.slice == 7


def test_a_picture_that_can_not_be_drawn_is_left_out():
    made = report(records(3, 1), place=False)

    def draw(record, name):
        if record is made.cases[1]:
            raise UserError("the file was moved")
        return dict(PLACE)

    add_pictures(made, draw)
    assert len(first_pictures(made)) == 2 and made.cases[1].pictures == {}


def test_without_truth_the_cases_with_warnings():
    cases = records(40, 1, truth=False)
    for record in cases[5:]:
        record.warnings = ["body: 2 pieces"]
    cases[35].warnings.append("bones: 1.0 ml")
    made = report(cases, truth=False)
    found = drawn(made)
    assert len(found) == len(set(found)) == 9 + 20 + 1 and (cases[35].case, "") in found
    shown, more = warned_pictures(made)
    assert len(shown) == 20 and more == 11


@pytest.mark.parametrize("status, words", [("missed", ["Worst"]), ("absent", [])])
def test_a_class_that_few_cases_have(status, words):
    cases = records(2, 1)
    odd(cases[0], "body", status)
    odd(cases[1], "body", "absent")
    assert [word for word, _ in best_and_worst(report(cases), "body")] == (["Only"] if words else [])
