"""Statistics of an evaluation: computed by hand, compared with SciPy's bootstrap, and tested by simulation."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import bootstrap

from scripts.report import summary
from scripts.report.measures import measure_classes
from scripts.report.records import measure_case
from scripts.report.schema import CaseRecord
from scripts.report.summary import intervals, lines

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

NAMES = ["background", "bladder", "prostate"]
NAN = math.nan


def summarise(cases: list[CaseRecord], names: list[str]) -> dict:
    """The summary as plain data, as `metrics.json` has it."""
    return asdict(summary.summarise(cases, names))


def scored(dice: float, **others) -> dict:
    found = {"status": "scored", "Dice": dice, "hd95_mm": 40 * (1 - dice), "truth_ml": 50.0, "predicted_ml": 45.0}
    found |= others
    return found | {"difference_ml": found["predicted_ml"] - found["truth_ml"]}


def missed(ml: float) -> dict:
    return scored(0.0, status="missed", hd95_mm=NAN, truth_ml=ml, predicted_ml=0.0)


def false_alarm(ml: float) -> dict:
    return scored(NAN, status="false alarm", truth_ml=0.0, predicted_ml=ml)


ABSENT = scored(NAN, status="absent", truth_ml=0.0, predicted_ml=0.0)


def case(name: str, bladder: dict | float, prostate: dict | float, **others) -> CaseRecord:
    """A record; its patient is the first letter of its name."""
    found = [scored(one) if isinstance(one, float) else one for one in (bladder, prostate)]
    return CaseRecord(name, name[0], None, dict(zip(NAMES[1:], found, strict=True)), **others)


CASES = [
    case("A0", 0.9, 0.8),
    case("A1", 0.7, missed(30.0)),
    case("B0", false_alarm(5.0), 0.6),
    case("C0", ABSENT, 0.4),
]


def cohort(patients: int, scans: int, between: float, within: float, seed: int = 0) -> list[CaseRecord]:
    """Patients who differ by `between`, with scans that differ by `within`; patients have names of one letter."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(patients):
        own = 0.75 + between * rng.normal(size=2)
        for scan in range(scans):
            dice = (own + within * rng.normal(size=2)).tolist()
            found = [scored(d, truth_ml=60 + 40 * d, predicted_ml=50 + 45 * d) for d in dice]
            cases.append(case(f"{chr(65 + number)}{scan}", *found))
    return cases


def test_statistics_by_hand():
    found = summarise(CASES, NAMES)["classes"]
    assert list(found) == NAMES[1:]
    counts = ("cases", "n", "missed", "absent", "false_alarms", "false_alarm_ml")
    assert [found["bladder"][key] for key in counts] == [4, 2, 0, 1, 1, 5.0]
    assert [found["prostate"][key] for key in counts] == [4, 4, 1, 0, 0, 0.0]
    keys = ("n", "patients", "mean", "sd", "median", "min", "max")
    for name, measure_name, wanted in (
        ("bladder", "Dice", [2, 1, 0.8, math.sqrt(0.02), 0.8, 0.7, 0.9]),
        ("prostate", "Dice", [4, 3, 0.45, math.sqrt((0.35**2 + 0.45**2 + 0.15**2 + 0.05**2) / 3), 0.5, 0.0, 0.8]),
        ("prostate", "hd95_mm", [3, 3, 16.0, 8.0, 16.0, 8.0, 24.0]),
        ("bladder", "predicted_ml", [2, 1, 45.0, 0.0, 45.0, 45.0, 45.0]),
        ("prostate", "predicted_ml", [4, 3, 33.75, 22.5, 45.0, 0.0, 45.0]),
        ("prostate", "truth_ml", [4, 3, 45.0, 10.0, 50.0, 30.0, 50.0]),
        ("prostate", "difference_ml", [4, 3, -11.25, 12.5, -5.0, -30.0, -5.0]),
    ):
        values = found[name]["measures"][measure_name]
        assert [values[key] for key in keys] == pytest.approx(wanted), (name, measure_name)


def test_worst_case_of_a_measure():
    """The lowest overlap, the longest distance, the volume that is furthest off in either direction."""
    cases = [
        case("A0", scored(0.9, hd95_mm=2.0, predicted_ml=58.0), scored(0.5, predicted_ml=42.0)),
        case("B0", scored(0.8, hd95_mm=9.0, predicted_ml=51.0), scored(0.6, predicted_ml=57.0)),
        case("C0", scored(0.7, hd95_mm=5.0, predicted_ml=43.0), scored(0.7, predicted_ml=50.0)),
    ]
    bladder, prostate = (summarise(cases, NAMES)["classes"][name]["measures"] for name in NAMES[1:])
    assert bladder["Dice"]["worst"] == {"case": "C0", "value": 0.7}
    assert bladder["hd95_mm"]["worst"] == {"case": "B0", "value": 9.0}
    assert bladder["difference_ml"]["worst"] == {"case": "A0", "value": 8.0}
    assert prostate["difference_ml"]["worst"] == {"case": "A0", "value": -8.0}


def test_foreground_by_hand():
    found = summarise(CASES, NAMES)["foreground"]
    assert found["mean"] == pytest.approx((0.8 + 0.45) / 2)
    per_case = [0.85, 0.35, 0.6, 0.4]
    assert [found[key] for key in ("n", "patients", "sd", "median", "min", "max")] == pytest.approx(
        [4, 3, np.std(per_case, ddof=1), 0.5, 0.35, 0.85]
    )
    assert found["worst"] == {"case": "A1", "value": pytest.approx(0.35)}


def test_patients_by_hand():
    found = summarise(CASES, NAMES)["patients"]
    assert list(found) == ["A", "B", "C"]
    first = found["A"]
    assert [first[key] for key in ("scans", "missed", "absent")] == [2, 1, 0]
    assert first["foreground"] == pytest.approx((0.8 + 0.4) / 2)
    assert [first[key] for key in ("sd", "median")] == pytest.approx([math.sqrt(0.125), 0.6])  # of 0.85 and 0.35
    assert first["worst"] == {"case": "A1", "value": pytest.approx(0.35)}
    assert first["classes"]["prostate"] == {
        "missed": 1,
        "absent": 0,
        "n": 2,
        "mean": pytest.approx(0.4),
        "sd": pytest.approx(math.sqrt(0.32)),
        "median": pytest.approx(0.4),
        "worst": {"case": "A1", "value": 0.0},
    }
    assert [found[p]["classes"]["bladder"]["absent"] for p in "ABC"] == [0, 0, 1]
    assert [found[p]["classes"]["bladder"]["n"] for p in "ABC"] == [2, 0, 0]
    assert [found[p]["foreground"] for p in "BC"] == pytest.approx([0.6, 0.4]) and found["C"]["absent"] == 1
    assert math.isnan(found["B"]["classes"]["bladder"]["mean"]) and math.isnan(found["B"]["classes"]["prostate"]["sd"])


def test_the_worst_of_all():
    low = scored(0.2, hd95_mm=12.34, truth_ml=40.0, predicted_ml=20.06)
    assert summarise([CASES[0], case("D0", 0.3, low)], NAMES)["worst"] == {
        "case": "D0",
        "class_name": "prostate",
        "value": 0.2,
        "status": "scored",
        "note": "The predicted volume is 20.1 ml, the true volume 40.0 ml. "
        "95 % of the two surfaces are within 12.3 mm of each other.",
        "plane": None,
        "slice": None,
        "axis": None,
    }


@pytest.mark.parametrize(
    "cases, wanted",
    [
        ([case("A0", 0.1, missed(30.0)), case("B0", missed(120.0), missed(31.0))], ("B0", "bladder", "missed")),
        ([case("B0", 0.9, missed(30.0)), case("A0", 0.9, missed(30.0))], ("A0", "prostate", "missed")),
        ([case("A0", missed(30.0), scored(0.0, truth_ml=31.0))], ("A0", "prostate", "scored")),
    ],
)
def test_the_largest_of_several_that_are_lost(cases, wanted):
    found = summarise(cases, NAMES)["worst"]
    assert (found["case"], found["class_name"], found["status"]) == wanted and found["value"] == 0.0
    assert ("95 %" in found["note"]) == (found["status"] == "scored")


def test_a_missed_structure_says_what_was_lost():
    found = summarise(CASES, NAMES)["worst"]
    assert found["note"] == "The predicted volume is 0.0 ml, the true volume 30.0 ml." and found["slice"] is None


def test_nothing_that_could_be_scored():
    found = summarise([case("A0", ABSENT, false_alarm(1.0)), case("B0", false_alarm(2.0), false_alarm(4.0))], NAMES)
    assert found["worst"] is None and found["foreground"]["worst"] is None and found["foreground"]["n"] == 0
    assert math.isnan(found["foreground"]["mean"]) and math.isnan(found["patients"]["A"]["foreground"])
    assert found["classes"]["prostate"]["false_alarm_ml"] == 5.0 and found["classes"]["prostate"]["n"] == 0
    for values in found["classes"]["prostate"]["measures"].values():
        assert values["n"] == values["patients"] == 0 and values["ci"] is values["ci_naive"] is values["worst"] is None
        assert all(math.isnan(values[key]) for key in ("mean", "sd", "median", "min", "max"))


def by_scipy(table: np.ndarray, patients: list, over_classes: bool = False) -> list[float]:
    """A percentile bootstrap over patients of one column's mean, or of the mean of all columns' means."""
    names = sorted(set(patients))
    sums = np.array([np.nansum(table[[p == name for p in patients]], axis=0) for name in names])
    counts = np.array([(~np.isnan(table[[p == name for p in patients]])).sum(axis=0) for name in names])

    def mean(drawn: np.ndarray, axis: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            means = sums[drawn].sum(axis) / counts[drawn].sum(axis)
        return means.mean(-1) if over_classes else means[..., 0]

    drawn = np.arange(len(names))
    options = {"n_resamples": 20_000, "method": "percentile", "vectorized": True, "rng": np.random.default_rng(7)}
    with np.errstate(invalid="ignore"):
        found = bootstrap((drawn,), lambda d, axis: mean(np.moveaxis(d, axis, 0), 0), **options)
    return list(np.nanpercentile(found.bootstrap_distribution, (2.5, 97.5)))


def uneven() -> tuple[np.ndarray, list[str]]:
    """Two classes of 12 patients with 1 to 6 scans; a third of the second class's values is not defined."""
    rng = np.random.default_rng(3)
    patients = [chr(65 + p) for p in range(12) for _ in range(rng.integers(1, 7))]
    own = dict(zip(sorted(set(patients)), rng.normal(0.8, 0.1, (12, 2)), strict=True))
    table = np.array([own[p] for p in patients]) + 0.03 * rng.normal(size=(len(patients), 2))
    table[rng.random(len(patients)) < 0.33, 1] = NAN
    return table, patients


def assert_close(found: list[float], wanted: list[float], share: float = 0.04) -> None:
    """Equal except for random draws: with 10 000 of them, the standard error of either end is 0.7 % of the width."""
    assert found == pytest.approx(wanted, abs=share * (wanted[1] - wanted[0]))


@pytest.mark.parametrize("column", [0, 1])
def test_intervals_as_scipy_has_them(column):
    table, patients = uneven()
    wanted = by_scipy(table[:, [column]], patients)
    assert_close(intervals(table[..., None], patients)[column][0], wanted)
    naive = intervals(table[..., None], range(len(table)))[column][0]
    assert_close(naive, by_scipy(table[:, [column]], list(range(len(table)))))
    assert naive != pytest.approx(wanted, abs=0.1 * (wanted[1] - wanted[0]))


def test_drawing_in_parts_changes_nothing(monkeypatch):
    """Which keeps the memory small; the parts must not begin with the same draws either."""
    table, patients = uneven()
    wanted = intervals(table[..., None], patients)
    monkeypatch.setattr(summary, "AT_ONCE", 100)
    found = intervals(table[..., None], patients)
    assert np.allclose(found, wanted, rtol=1e-12)


def test_fewer_draws_for_very_many_patients(monkeypatch):
    values = np.random.default_rng(0).normal(0.8, 0.1, (500, 1, 1))
    wanted = intervals(values, range(500))[0][0]
    monkeypatch.setattr(summary, "MOST_DRAWN", 1)
    assert len(summary.resampled_means(values, np.ones_like(values))) == summary.FEWEST_RESAMPLES
    found = intervals(values, range(500))[0][0]
    assert found != wanted
    assert_close(found, wanted, share=0.15)


def test_interval_over_the_classes_as_scipy_has_it():
    table, patients = uneven()
    found = intervals(table[..., None], patients, over_classes=True)
    assert len(found) == 1
    assert_close(found[0][0], by_scipy(table, patients, over_classes=True))


def test_a_class_that_few_patients_have():
    """Draws without any of them say nothing: 3 of 12 patients are left out of 3 % of the draws."""
    table, patients = uneven()
    table[[p not in "CFK" for p in patients], 1] = NAN
    assert_close(intervals(table[..., None], patients)[1][0], by_scipy(table[:, [1]], patients))
    table[[p != "C" for p in patients], 1] = NAN
    assert intervals(table[..., None], patients)[1] == [None]


def width(interval: list[float]) -> float:
    return interval[1] - interval[0]


@pytest.mark.parametrize("scans", [4, 9])
def test_scans_of_one_patient_are_no_new_patients(scans):
    """With scans that are nearly copies, the naive interval is too narrow, by a factor of sqrt(scans)."""
    found = summarise(cohort(14, scans, between=0.1, within=0.003), NAMES)
    few = summarise(cohort(14, scans, between=0.1, within=0.003)[::scans], NAMES)
    for several, single in (
        (found["classes"]["bladder"]["measures"]["Dice"], few["classes"]["bladder"]["measures"]["Dice"]),
        (found["foreground"], few["foreground"]),
    ):
        assert width(several["ci"]) / width(several["ci_naive"]) == pytest.approx(math.sqrt(scans), rel=0.05)
        assert width(several["ci"]) == pytest.approx(width(single["ci"]), rel=0.05)


def test_how_often_an_interval_holds_the_truth():
    """300 studies of 12 patients with 4 scans each, all at once, as classes of one table; the true mean is 0.8."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 4)
    table = 0.8 + 0.1 * rng.normal(size=(12, 300))[patients] + 0.02 * rng.normal(size=(48, 300))
    held = [
        np.mean([low <= 0.8 <= high for ((low, high),) in intervals(table[..., None], groups)])
        for groups in (patients, range(48))
    ]
    assert 0.86 < held[0] < 0.98 and held[1] < 0.75


def flat(value, path: str = "") -> dict:
    """Every value by its path."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in pairs for k, v in flat(inner, f"{path}/{key}").items()}
    return {path: value}


def test_the_order_of_the_cases_does_not_matter():
    cases = cohort(6, 3, between=0.1, within=0.05)
    cases[2] = case("A2", missed(30.0), 0.4)
    cases[7] = case("C1", ABSENT, false_alarm(3.0))
    shuffled = [cases[k] for k in np.random.default_rng(1).permutation(len(cases))]
    first, second = (flat(summarise(order, NAMES)) for order in (cases, shuffled))
    naive = {key for key in first if "ci_naive" in key}
    assert first.keys() == second.keys() and naive
    for key in first.keys() - naive:
        if isinstance(first[key], float):
            assert first[key] == pytest.approx(second[key], rel=1e-12, abs=1e-14, nan_ok=True), key
        else:
            assert first[key] == second[key], key
    for key in {key.removesuffix("/0").removesuffix("/1") for key in naive}:
        assert_close(*([found[f"{key}/0"], found[f"{key}/1"]] for found in (first, second)))


def test_one_patient_has_no_interval():
    found = summarise(cohort(1, 4, between=0.1, within=0.1), NAMES)
    assert found["foreground"]["ci"] is None and found["foreground"]["patients"] == 1
    assert found["classes"]["bladder"]["measures"]["Dice"]["ci"] is None
    one = summarise(CASES[:1], NAMES)["classes"]["bladder"]["measures"]["Dice"]
    assert one["ci"] is one["ci_naive"] is None and math.isnan(one["sd"]) and one["mean"] == 0.9


@pytest.mark.parametrize("names", ["ABCDEFGH", "HCADGBFE"])
def test_one_scan_a_patient_has_one_interval(names):
    """Whether or not the cases stand in the order of their patients."""
    cases = [case(f"{name}0", *dice) for name, dice in zip(names, np.linspace(0.3, 0.9, 16).reshape(8, 2).tolist())]
    found = summarise(cases, NAMES)
    for values in (found["foreground"], found["classes"]["prostate"]["measures"]["Dice"]):
        assert 0 < width(values["ci"]) < 0.6 and values["ci_naive"] is None


def test_from_measured_maps_to_plain_data():
    """Records of real maps: every measure has statistics, and all of them can be written as JSON."""
    rng = np.random.default_rng(0)
    cases = []
    for name in ("A0", "A1", "B0"):
        truth, prediction = rng.integers(0, 3, (2, 6, 7, 8), dtype=np.uint8)
        measures = measure_classes(truth, prediction, (1.0, 2.0, 3.0), NAMES)
        cases.append(CaseRecord(name, name[0], None, measures))
    found = summarise(cases, NAMES)
    for name in NAMES[1:]:
        for key, values in found["classes"][name]["measures"].items():
            assert values["mean"] == pytest.approx(np.mean([c.measures[name][key] for c in cases])), key
        assert len(found["classes"][name]["measures"]) == 10
    assert json.loads(json.dumps(found, allow_nan=True))["classes"]["bladder"]["n"] == 3


def test_without_truth():
    """Volumes where something was found; no score, no worst case, no patients' table."""
    labels = np.zeros((2, 5, 6, 7), np.uint8)
    labels[0, :3], labels[1, 0], labels[1, 1, 1, 1] = 1, 1, 2
    affine = np.diag([10.0, 10.0, 5.0, 1.0])
    cases = [measure_case(f"Case_00{k}_Week0", labels[k], None, affine, NAMES, seconds=1.0) for k in range(2)]
    found = summarise(cases, NAMES)
    assert found["foreground"] is None and found["worst"] is None and found["patients"] == {}
    bladder, prostate = (found["classes"][name] for name in NAMES[1:])
    assert [bladder[key] for key in ("cases", "n", "missed", "absent", "false_alarms")] == [2, 2, 0, 0, 0]
    assert [prostate[key] for key in ("cases", "n", "missed", "absent", "false_alarms")] == [2, 1, 0, 1, 0]
    assert list(bladder["measures"]) == list(prostate["measures"]) == ["predicted_ml"]
    assert bladder["measures"]["predicted_ml"]["mean"] == pytest.approx((63.0 + 21.0) / 2)
    assert prostate["measures"]["predicted_ml"]["mean"] == pytest.approx(0.5)
    assert prostate["measures"]["predicted_ml"]["n"] == 1 and prostate["measures"]["predicted_ml"]["ci"] is None


def test_the_table_of_a_terminal():
    found = summarise(CASES, NAMES)
    title, bladder, prostate, mean = lines(summary.summarise(CASES, NAMES))
    assert title.split() == ["Dice", "n", "missed", "mean", "95", "%", "interval", "sd", "median", "worst"]
    assert bladder.split() == ["bladder", "2", "0", "0.8000", "-", "0.1414", "0.8000", "0.7000", "A1"]
    low, high = found["classes"]["prostate"]["measures"]["Dice"]["ci"]
    shown = ["4", "1", "0.4500", f"{low:.4f}-{high:.4f}", "0.3416", "0.5000", "0.0000", "A1"]
    assert low < 0.45 < high and prostate.split() == ["prostate", *shown]
    low, high = found["foreground"]["ci"]
    shown = ["4", "1", "0.6250", f"{low:.4f}-{high:.4f}", "0.2273", "0.5000", "0.3500", "A1"]
    assert low < 0.625 < high and mean.split() == ["mean", "foreground", *shown]


def test_columns_end_below_their_titles():
    rows = lines(summary.summarise([*CASES, *cohort(12, 2, 0.1, 0.01)], NAMES))
    for title in (" n ", " missed ", " mean ", " 95 % interval ", " sd ", " median "):
        end = rows[0].index(title) + len(title) - 1
        assert all(row[end - 1].isdigit() and row[end] == " " for row in rows[1:])
    assert len({row.index(row.split()[-2]) for row in rows[1:]}) == 1


def test_the_table_where_a_class_is_in_no_case():
    rows = lines(summary.summarise([case("A0", 0.5, ABSENT), case("A1", ABSENT, false_alarm(5.0))], NAMES))
    assert rows[1].split() == ["bladder", "1", "0", "0.5000", "-", "-", "0.5000", "0.5000", "A0"]
    assert rows[2].split() == ["prostate", "0", "0", "-", "-", "-", "-", "in", "the", "truth", "of", "no", "case"]
    assert rows[3].split()[2:5] == ["1", "0", "0.5000"]


@pytest.mark.parametrize("patients, low, high", [(2, 0.45, 0.55), (10, 0.08, 0.13), (30, 0.05, 0.08)])
def test_how_often_an_interval_excludes_0_by_chance(patients, low, high):
    """A thousand comparisons of runs that do not differ: with ten patients two of twenty intervals exclude 0."""
    drawn = np.random.default_rng(0).normal(size=(patients, 1, 1000))
    (found,) = intervals(drawn, range(patients))
    assert low < np.mean([first > 0 or last < 0 for first, last in found]) < high
