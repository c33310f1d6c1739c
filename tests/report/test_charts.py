"""Charts: every case is a point, only what is known is drawn, words are text, and the bytes are always the same."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from samples import CLASSES, HOSTILE, NAN, comparison, history_rows, odd, odd_records, records

from scripts.report import charts, run_charts
from scripts.report.schema import CaseRecord, Statistics
from scripts.report.summary import summarise

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}"
HUE = "#009E73"


def parsed(svg: str) -> ElementTree.Element:
    """The tree of a chart, after checks that hold for all: its width, readable text, no reference to other files."""
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg" and float(root.get("width").removesuffix("pt")) == pytest.approx(285, abs=0.5)
    addresses = {address for address in re.findall(r'https?://[^"\s<]+', svg)}
    assert all(address.startswith("http://www.w3.org/") for address in addresses)
    links = [element.get(f"{LINK}href") for element in root.iter(f"{SVG}use")]
    assert all(link.startswith("#") for link in links)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )*([\d.]+)px", svg)]
    assert min(sizes) >= 7  # px of the SVG are points, as its width is in points
    return root


def count(root: ElementTree.Element, gid: str) -> int:
    """Markers drawn in all groups of that name."""
    groups = [group for group in root.iter(f"{SVG}g") if group.get("id") == gid]
    return sum(1 for group in groups for _ in group.iter(f"{SVG}use"))


def words(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def measures(cases: list[CaseRecord], name: str) -> dict[str, Statistics]:
    return summarise(cases, CLASSES).classes[name].measures


def weeks(cases: list[CaseRecord], name: str) -> str:
    return charts.weeks(charts.most_changed(charts.series_of_weeks(cases, name)), HUE)


@pytest.mark.parametrize("patients, scans", [(1, 1), (2, 3), (40, 5)])
def test_every_case_is_a_point(patients, scans):
    cases = records(patients, scans)
    root = parsed(charts.points(cases, "bladder", HUE, measures(cases, "bladder")))
    assert count(root, "dice") == count(root, "distance") == patients * scans
    assert count(root, "missed") == count(root, "dice-missed") == 0
    ids = {group.get("id") for group in root.iter(f"{SVG}g")}
    assert "mean" in ids and ("interval" in ids) == (patients > 1)
    shown = [word for word in words(root) if word.startswith("Case_")]
    assert shown[0] == "Case_004" and len(shown) == (20 if patients == 40 else patients)


def test_missed_cases_are_marked_apart_and_absent_ones_are_no_points():
    cases = odd_records(10, 4)
    for record in cases[20:23]:
        odd(record, "rectum", "missed")
    root = parsed(charts.points(cases, "rectum", HUE, measures(cases, "rectum")))
    assert count(root, "missed") == count(root, "dice-missed") == 3
    assert count(root, "dice") == count(root, "distance") == 40 - 3 - 2  # one absent, one false alarm
    sizes = parsed(charts.volumes(cases, "rectum", HUE))
    assert [count(sizes, kind) for kind in ("scored", "missed", "false-alarm")] == [35, 3, 1]


@pytest.mark.parametrize("status", ["missed", "absent"])
def test_a_class_that_was_never_found(status):
    cases = records(2, 2)
    for record in cases:
        odd(record, "bones", status)
    root = parsed(charts.points(cases, "bones", HUE, measures(cases, "bones")))
    assert count(root, "dice") == 0 and count(root, "missed") == (4 if status == "missed" else 0)
    assert count(parsed(charts.volumes(cases, "bones", HUE)), "missed") == (4 if status == "missed" else 0)


def test_a_distance_that_is_not_defined_is_no_point():
    cases = records(3, 2)
    cases[0].measures["body"]["hd95_mm"] = NAN
    cases[1].measures["body"]["hd95_mm"] = float("inf")
    root = parsed(charts.points(cases, "body", HUE, measures(records(3, 2), "body")))
    assert (count(root, "dice"), count(root, "distance")) == (6, 4)


def test_211_cases_can_be_drawn_and_names_are_only_text():
    cases = odd_records(43, 5)[:211]
    assert len(cases) == 211 and cases[0].case == HOSTILE
    root = parsed(charts.points(cases, "body", HUE, measures(cases, "body")))
    assert count(root, "dice") == 211 and count(parsed(charts.volumes(cases, "body", HUE)), "scored") == 211
    assert HOSTILE[:13] + "…" in words(root)


def test_weeks_have_a_panel_for_every_patient_with_several_scans():
    cases = odd_records(5, 3)  # the last one is of another patient and has no week
    root = parsed(weeks(cases, "prostate"))
    shown = [word for word in words(root) if word.startswith("Case_")]
    assert shown == [f"Case_{n:03d}" for n in range(4, 9)]
    assert count(root, "truth") == count(root, "prediction") == 14
    single = [record for record in cases if record.week in (0, None)]
    assert charts.series_of_weeks(single, "prostate") == {}
    assert charts.series_of_weeks(records(3, 2, weeks=False), "prostate") == {}


def test_the_patients_that_change_most_have_a_panel():
    """Patient 4 grows by 1 ml, patient 5 by 2 ml and so on; of 40 the last 24 are shown."""
    cases = records(40, 3)
    for record in cases:
        record.measures["prostate"]["truth_ml"] = 50.0 + (int(record.patient[5:]) - 3) * record.week / 2
    root = parsed(weeks(cases, "prostate"))
    shown = [word for word in words(root) if word.startswith("Case_")]
    assert shown == [f"Case_{n:03d}" for n in range(20, 44)]
    assert count(root, "truth") == 24 * 3


def test_many_patients_are_ranked_and_only_the_lowest_scans_are_named():
    cases = records(100, 2)
    for position, record in enumerate(cases):
        record.measures["body"]["Dice"] = 0.99 - 0.002 * position
    odd(cases[0], "body", "missed")
    root = parsed(charts.points(cases, "body", HUE, measures(cases, "body")))
    assert count(root, "dice") == count(root, "distance") == 199 and count(root, "missed") == 1
    named = [word.split()[0] for word in words(root) if word.startswith("Case_")]
    assert sorted(named) == sorted(["Case_004_Week0", "Case_103_Week1", "Case_103_Week0", "Case_102_Week1"])
    assert "Rank of the 100 patients by mean Dice" in words(root)
    assert charts.by_mean_dice(cases, "body")[:2] == ["Case_004", "Case_103"]


def test_a_chart_of_many_points_is_small():
    """One style for all points of a group and two decimals: a third of what matplotlib writes."""
    cases = records(300, 4)
    svg = charts.points(cases, "body", HUE, measures(cases, "body"))
    assert len(svg) < 80 * 2 * 1200
    (group,) = re.findall(r'<g id="dice"[^>]*>.*?</g>\s*</g>', svg, re.DOTALL)
    assert group.count("<use ") == 1200 and group.count("fill: #009e73") <= 2
    assert not re.search(r'(?: x| y| d)="[^"]*\d\.\d{3}', svg)


def test_weeks_without_truth_show_the_prediction():
    root = parsed(weeks(records(2, 3, truth=False), "prostate"))
    assert (count(root, "truth"), count(root, "prediction")) == (0, 6)


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_curves_leave_out_what_was_not_validated(epochs):
    root = parsed(run_charts.curves(history_rows(epochs), CLASSES))
    assert set(CLASSES[1:]) <= set(words(root))
    if epochs == 2:
        assert [count(root, f"{side}-5") for side in ("train", "val")] == [2, 1]


def test_a_training_that_was_never_validated():
    rows = [row | {key: "" for key in row if key.startswith("val")} for row in history_rows(3)]
    root = parsed(run_charts.curves(rows, CLASSES))
    assert count(root, "train-1") == 3 and count(root, "val-1") == 0 and set(CLASSES[1:]) <= set(words(root))


def test_every_difference_is_a_point():
    first, second, third = odd_records(6, 2), records(6, 2, seed=5), records(6, 2, seed=6)
    for run in (1, 2):
        root = parsed(run_charts.differences(comparison(first, second, third), run))
        assert [count(root, f"cases-{row}") for row in range(5)] == [12, 12, 12, 10, 12]  # two without truth
        assert [count(root, f"mean-{row}") for row in range(5)] == [1] * 5
        assert f"Dice, {'ABC'[run]} minus A" in words(root)


def test_the_same_numbers_give_the_same_bytes():
    def drawn() -> list[str]:
        cases = odd_records(3, 3)
        made = [charts.points(cases, "body", HUE, measures(cases, "body")), charts.volumes(cases, "body", HUE)]
        made += [weeks(cases, "body"), run_charts.curves(history_rows(9), CLASSES)]
        return [*made, run_charts.differences(comparison(cases, records(3, 3, seed=4)), 1)]

    first = drawn()
    assert drawn() == first
    assert "<dc:date>" not in "".join(first)


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.0, 0.01, 0.9], [0.3, 0.1, 0.2], [0.7], []])
def test_labels_keep_apart_and_in_order(heights):
    moved = run_charts.keep_distance(heights, 0.1)
    assert np.array_equal(np.argsort(moved, kind="stable"), np.argsort(heights, kind="stable"))
    assert (np.diff(np.sort(moved)) > 0.0999).all() and min(moved, default=0) >= 0


def test_labels_with_room_stay_where_they_are():
    assert np.allclose(run_charts.keep_distance([0.9, 0.3, 0.6], 0.1), [0.9, 0.3, 0.6])
    assert np.allclose(run_charts.keep_distance([0.5, 0.52], 0.1), [0.46, 0.56])
