"""Comparisons of evaluations: paired differences, computed by hand and by SciPy, and what is refused."""

import json
import math
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import refusal
from scipy.stats import bootstrap

from scripts.report.comparison import compare, compared, side_by_side
from scripts.report.comparison_tables import missed_table, shown_interval, verdict
from scripts.report.files import build, metrics
from scripts.report.schema import CaseRecord

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ["background", "bladder", "prostate"]
NAN = math.nan
MISSED, ABSENT = "missed", "absent"
WEEKS = ["Case_004_Week0", "Case_004_Week1", "Case_012_Week0", "Case_017_Week0"]


def result(dice: float | str, n_ref: int) -> dict:
    """All that is measured of a class; its distances fall by 0.4 mm for every hundredth of Dice."""
    status = dice if isinstance(dice, str) else "scored"
    scored, value = status == "scored", {MISSED: 0.0, ABSENT: NAN}.get(dice, dice)
    n_ref, n_pred = 0 if dice == ABSENT else n_ref, n_ref if scored else 0
    hit = int(n_ref * value) if scored else 0
    return {
        "status": status,
        **dict.fromkeys(("Dice", "IoU", "sensitivity"), value),
        "precision": value if scored else NAN,
        "hd95_mm": 40 * (1 - value) if scored else NAN,
        "mean_surface_distance_mm": 10 * (1 - value) if scored else NAN,
        "surface_dice": value,
        "truth_ml": n_ref / 100,
        "predicted_ml": n_pred / 100,
        "difference_ml": (n_pred - n_ref) / 100,
        **{"TP": hit, "FP": n_pred - hit, "FN": n_ref - hit, "TN": 9000, "n_pred": n_pred, "n_ref": n_ref},
    }


def record(name: str, *dice: float | str, patient: str | None = None) -> CaseRecord:
    """The record of one case. The true size of its structures depends on patient and week only."""
    scan = name.replace("_SEMANTIC", "").replace("_LFOV", "").removesuffix("_seg")
    found = {n: result(d, 500 + zlib.crc32(f"{scan} {n}".encode()) % 900) for n, d in zip(NAMES[1:], dice, strict=True)}
    patient = patient or scan.split("_Week")[0]
    return CaseRecord(name, patient, None, found, 1.0)


def evaluation(folder: Path, records: list[CaseRecord], names: list[str] = NAMES, **options) -> str:
    """Writes a report's `metrics.json` and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = build(records, names, [["Model", folder.name]], **options)
    (folder / "metrics.json").write_text(json.dumps(metrics(content)))
    return str(folder)


def two(tmp_path: Path, first: list[tuple], second: list[tuple], cases: list[str] = WEEKS) -> dict:
    """The comparison of two runs, given the Dice of both classes in every case."""
    runs = zip("ab", (first, second))
    return compare([evaluation(tmp_path / n, [record(c, *d) for c, d in zip(cases, run)]) for n, run in runs])


FIRST = [(0.9, 0.8), (0.7, 0.6), (0.8, 0.7), (0.6, 0.5)]
SECOND = [(0.95, 0.7), (0.72, 0.61), (0.75, 0.7), (0.66, 0.3)]


def test_differences_by_hand(tmp_path):
    found = two(tmp_path, FIRST, SECOND)
    assert found["class_names"] == NAMES and list(found["measures"]) == compared()
    dice = found["measures"]["Dice"]
    (change,) = dice["bladder"]["differences"]
    assert change["means"] == pytest.approx([0.75, 0.77])
    assert change["mean"] == pytest.approx((0.05 + 0.02 - 0.05 + 0.06) / 4)
    assert [change[key] for key in ("n", "patients", "worse", "better")] == [4, 3, 1, 3]
    change = dice["prostate"]["differences"][0]
    assert change["mean"] == pytest.approx((-0.1 + 0.01 - 0.2) / 4)
    assert [change[key] for key in ("n", "patients", "worse", "better")] == [4, 3, 2, 1]


def test_foreground_by_hand(tmp_path):
    change = two(tmp_path, FIRST, SECOND)["foreground"]["differences"][0]
    assert change["means"] == pytest.approx([(0.75 + 0.65) / 2, (0.77 + 0.5775) / 2])
    # of the cases' means: -0.025, 0.015, -0.025 and -0.07
    assert change["mean"] == pytest.approx((0.02 - 0.0725) / 2)
    assert [change[key] for key in ("n", "patients", "worse", "better")] == [4, 3, 3, 1]


@pytest.mark.parametrize("measure, factor", [("hd95_mm", -40), ("mean_surface_distance_mm", -10), ("surface_dice", 1)])
def test_of_distances_less_is_better(tmp_path, measure, factor):
    """A distance that grows is worse, though its difference is above zero."""
    found = two(tmp_path, FIRST, SECOND)["measures"]
    for name in NAMES[1:]:
        dice, other = (found[m][name]["differences"][0] for m in ("Dice", measure))
        assert other["mean"] == pytest.approx(factor * dice["mean"])
        assert other["ci"] == pytest.approx(sorted(factor * end for end in dice["ci"]))
        assert (other["worse"], other["better"]) == (dice["worse"], dice["better"])


def cohort(seed: int = 0) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Cases, patients and two runs' Dice: patients differ widely, and in what the second run does to them."""
    rng = np.random.default_rng(seed)
    scans = [(p, w) for p in range(12) for w in range(rng.integers(1, 6))]
    cases, patients = [f"Case_{p:03d}_Week{w}" for p, w in scans], [f"Case_{p:03d}" for p, _ in scans]
    own, change = rng.uniform(0.4, 0.9, (12, 2)), rng.normal(0.01, 0.03, (12, 2))
    number = [p for p, _ in scans]
    first = own[number] + 0.005 * rng.normal(size=(len(scans), 2))
    return cases, patients, first, first + change[number] + 0.005 * rng.normal(size=first.shape)


def by_scipy(differences: np.ndarray, patients: list[str], *others: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap over patients of the mean difference; the mean over the classes of several columns."""
    columns = (differences, *others)
    names = sorted(set(patients))
    own = [[column[[p == name for p in patients]] for name in names] for column in columns]

    def mean(drawn: np.ndarray) -> float:
        return float(np.mean([np.concatenate([part[k] for k in drawn]).mean() for part in own]))

    options = {"n_resamples": 5000, "method": "percentile", "vectorized": False, "rng": np.random.default_rng(5)}
    return tuple(bootstrap((np.arange(len(names)),), mean, **options).confidence_interval)


def test_intervals_as_scipy_has_them(tmp_path):
    cases, patients, first, second = cohort()
    found = two(tmp_path, first.tolist(), second.tolist(), cases)
    difference = second - first
    for given, wanted in (
        (found["measures"]["Dice"]["prostate"], by_scipy(difference[:, 1], patients)),
        (found["foreground"], by_scipy(difference[:, 0], patients, difference[:, 1])),
    ):
        low, high = given["differences"][0]["ci"]
        width = wanted[1] - wanted[0]
        assert (low, high) == pytest.approx(wanted, abs=0.05 * width) and 0.005 < width < 0.1


def test_the_same_gain_everywhere_is_sure(tmp_path):
    """The cases differ from each other by a Dice of 0.5, which paired differences don't see."""
    dice = np.linspace(0.3, 0.8, 8).reshape(4, 2)
    found = two(tmp_path, dice.tolist(), (dice + 0.01).tolist())
    for change in (found["measures"]["Dice"]["bladder"]["differences"][0], found["foreground"]["differences"][0]):
        assert change["ci"] == pytest.approx([0.01, 0.01]) and change["better"] == 4


def test_one_patient_has_no_interval(tmp_path):
    found = two(tmp_path, FIRST[:2], SECOND[:2])["measures"]["Dice"]["bladder"]["differences"][0]
    assert found["ci"] is None and found["patients"] == 1 and found["mean"] == pytest.approx(0.035)


def test_missed_and_absent_structures(tmp_path):
    """A Dice of 0 counts, its distances are not defined. A class that is not in the truth is not compared."""
    first = [(0.9, 0.8), (MISSED, 0.6), (0.8, MISSED), (ABSENT, 0.5)]
    second = [(MISSED, 0.8), (MISSED, 0.7), (0.7, 0.4), (ABSENT, 0.5)]
    found = two(tmp_path, first, second)
    assert found["missed"] == {"bladder": [1, 2], "prostate": [1, 0]}
    dice, hd95 = (found["measures"][m]["bladder"]["differences"][0] for m in ("Dice", "hd95_mm"))
    assert [dice[key] for key in ("n", "patients", "worse", "better")] == [3, 2, 2, 0]
    assert dice["mean"] == pytest.approx((-0.9 + 0 - 0.1) / 3)
    assert [hd95[key] for key in ("n", "patients", "mean", "ci")] == [1, 1, pytest.approx(4.0), None]
    dice, hd95 = (found["measures"][m]["prostate"]["differences"][0] for m in ("Dice", "hd95_mm"))
    assert (dice["n"], hd95["n"]) == (4, 3) and dice["mean"] == pytest.approx((0.1 + 0.4) / 4)
    assert found["foreground"]["differences"][0]["mean"] == pytest.approx((-1.0 / 3 + 0.5 / 4) / 2)
    assert hd95["means"] == pytest.approx([40 * 1.1 / 3, 40 * 1.0 / 3])  # without the case that one run missed
    assert [(e["class"], e["before"], e["after"]) for e in found["worse"]] == [
        ("bladder", 0.9, 0.0),
        ("bladder", 0.8, 0.7),
    ]


def test_false_alarms_are_counted(tmp_path):
    """A structure that is found where it is not has no Dice, so no difference shows it."""
    alarm = record("Case_017_Week0", 0.6, ABSENT)
    alarm.measures["prostate"] |= {"status": "false alarm", "predicted_ml": 2.0, "n_pred": 200}
    cases = [record(case, 0.9, 0.8) for case in WEEKS[:3]]
    runs = [*cases, record("Case_017_Week0", 0.6, ABSENT)], [*cases, alarm]
    found = compare([evaluation(tmp_path / name, run) for name, run in zip("ab", runs)])
    assert found["false_alarms"] == {"bladder": [0, 0], "prostate": [0, 1]} and not found["worse"]
    assert missed_table(found).groups[1] == ("False alarms", [["bladder", "0", "0"], ["prostate", "0", "1"]])


@pytest.mark.parametrize("patients, words", [(5, "too few patients"), (6, "excludes 0: better")])
def test_nothing_is_concluded_of_few_patients(patients, words):
    """Of five patients all get better by chance once in 32 comparisons, and all get better or worse once in 16."""
    values = np.array([[0.5] * patients, np.linspace(0.6, 0.7, patients)])[..., None]
    (change,) = side_by_side(values, [f"{number}" for number in range(patients)], "Dice")["differences"]
    assert change["ci"][0] > 0 and verdict(change, "Dice") == words


@pytest.mark.parametrize(
    "limits, text",
    [
        ([0.0004, 0.06], "0.0004 to 0.0600"),
        ([-0.06, -0.00004], "−0.06000 to −0.00004"),
        ([0.001, 0.06], "0.001 to 0.060"),
        ([-0.0004, 0.06], "0.000 to 0.060"),
        ([0.0, 0.06], "0.000 to 0.060"),
        (None, "–"),
    ],
)
def test_an_interval_shows_on_which_side_of_0_it_is(limits, text):
    assert shown_interval(limits) == text


def test_a_row_does_not_contradict_itself():
    """Each run has cases that the other one has not; means and difference are of those that both have."""
    runs = [[NAN, 5, 6, 2], [20, 4, 5, NAN]]
    (change,) = side_by_side(np.array(runs, float)[..., None], [*"abcd"], "hd95_mm")["differences"]
    assert change["means"] == [5.5, 4.5] and change["mean"] == -1.0 and change["better"] == change["n"] == 2


def test_nothing_to_compare_in_a_class(tmp_path):
    found = two(tmp_path, [(0.5, ABSENT)] * 4, [(0.6, ABSENT)] * 4)
    prostate = found["measures"]["Dice"]["prostate"]["differences"][0]
    assert prostate["n"] == 0 and prostate["ci"] is None
    assert np.isnan([*prostate["means"], prostate["mean"]]).all()
    assert found["foreground"]["differences"][0]["mean"] == pytest.approx(0.1)


def test_what_got_worse_comes_largest_loss_first(tmp_path):
    third = [(0.9, 0.79), (0.7, 0.1), (0.9, 0.7), (0.45, 0.5)]
    runs = [
        evaluation(tmp_path / name, [record(case, *dice) for case, dice in zip(WEEKS, run)])
        for name, run in (("old", FIRST), ("new", SECOND), ("newer", third))
    ]
    found = compare(runs)["worse"]
    assert [(e["run"], e["class"], e["case"], round(e["difference"], 9)) for e in found] == [
        ("newer", "prostate", WEEKS[1], -0.5),
        ("new", "prostate", WEEKS[3], -0.2),
        ("newer", "bladder", WEEKS[3], -0.15),
        ("new", "prostate", WEEKS[0], -0.1),
        ("new", "bladder", WEEKS[2], -0.05),
        ("newer", "prostate", WEEKS[0], -0.01),
    ]
    assert all(e["after"] - e["before"] == e["difference"] for e in found)
    assert [found[0]["before"], found[0]["after"]] == [0.6, 0.1]


def test_three_runs_against_the_first(tmp_path):
    runs = [
        evaluation(tmp_path / name, [record(case, *dice) for case, dice in zip(WEEKS, run)])
        for name, run in (("old", FIRST), ("new", SECOND), ("same", FIRST))
    ]
    found = compare(runs)
    assert [run["label"] for run in found["runs"]] == ["old", "new", "same"]
    assert [run["about"] for run in found["runs"]] == [[["Model", name]] for name in ("old", "new", "same")]
    bladder = found["measures"]["Dice"]["bladder"]
    assert [change["mean"] for change in bladder["differences"]] == pytest.approx([0.02, 0.0])
    assert np.ravel([c["means"] for c in bladder["differences"]]) == pytest.approx([0.75, 0.77, 0.75, 0.75])
    assert {entry["run"] for entry in found["worse"]} == {"new"}
    assert [case["case"] for case in found["cases"]] == WEEKS
    assert found["cases"][3]["patient"] == "Case_017"
    assert found["cases"][3]["values"] == {"bladder": [0.6, 0.66, 0.6], "prostate": [0.5, 0.3, 0.5]}
    turned = compare(runs[1::-1])["measures"]["Dice"]["bladder"]["differences"][0]
    assert turned["mean"] == pytest.approx(-0.02) and (turned["worse"], turned["better"]) == (3, 1)
    assert json.loads(json.dumps(found))["worse"] == found["worse"]


def test_one_file_twice(tmp_path):
    run = evaluation(tmp_path / "a", [record(case, *dice) for case, dice in zip(WEEKS, FIRST)])
    found = compare([run, f"{run}/metrics.json"])
    assert found["worse"] == [] and len({r["label"] for r in found["runs"]}) == 2
    assert {r["source"] for r in found["runs"]} == {f"{run}/metrics.json"}
    for change in [found["foreground"], *(c for of in found["measures"].values() for c in of.values())]:
        first, second = change["differences"][0].pop("means")
        assert first == second > 0
        assert change["differences"] == [{"n": 4, "patients": 3, "mean": 0, "ci": [0, 0], "worse": 0, "better": 0}]


@pytest.mark.parametrize(
    "first, second",
    [
        ("Case_004_Week{}_LFOV", "Case_004_Week{}_SEMANTIC_LFOV"),
        ("prostate_0{}", "prostate_0{}_seg"),
        ("case_004_week_0_slice_{}", "case_004_week_0_slice_{}_seg"),
    ],
)
def test_cases_that_have_other_names(tmp_path, first, second):
    """Patient and week, or the name without its ending, say which cases are the same; the first run's name is shown."""
    runs = []
    for name, pattern, dice in (("a", first, [0.5, 0.6, 0.7]), ("b", second, [0.6, 0.65, 0.7])):
        order = (0, 1, 2) if name == "a" else (2, 0, 1)
        runs.append(evaluation(tmp_path / name, [record(pattern.format(k), dice[k], 0.5) for k in order]))
    found = compare(runs)
    assert [case["case"] for case in found["cases"]] == [first.format(k) for k in range(3)]
    assert [case["values"]["bladder"] for case in found["cases"]] == [[0.5, 0.6], [0.6, 0.65], [0.7, 0.7]]


@pytest.mark.parametrize(
    "folders, labels",
    [
        (["runs/a/eval", "runs/b/eval"], ["a/eval", "b/eval"]),
        (["runs/a/eval", "runs/b/test"], ["eval", "test"]),
        (["one/a/eval", "two/a/eval", "one/b/eval"], ["one/a/eval", "two/a/eval", "one/b/eval"]),
        (["eval", "deep/er/eval"], None),
    ],
)
def test_a_run_is_called_by_the_shortest_telling_end_of_its_path(tmp_path, folders, labels):
    records = [record(case, *dice) for case, dice in zip(WEEKS, FIRST)]
    runs = [evaluation(tmp_path / folder, records) for folder in folders]
    found = compare(runs)
    labels = labels or [f"{tmp_path.name}/eval", "er/eval"]
    assert [run["label"] for run in found["runs"]] == labels
    assert [run["source"] for run in found["runs"]] == [f"{run}/metrics.json" for run in runs]


def test_files_of_one_folder_have_labels_of_their_own(tmp_path):
    runs = []
    for name, dice in (("old", FIRST), ("new", SECOND)):
        folder = evaluation(tmp_path / name, [record(case, *d) for case, d in zip(WEEKS, dice)])
        runs.append(shutil.copy(f"{folder}/metrics.json", tmp_path / f"{name}.json"))
    found = compare(runs)
    first, second = (run["label"] for run in found["runs"])
    assert first != second and {entry["run"] for entry in found["worse"]} == {second}


def test_coded_runs(tmp_path):
    """Codes made with the same word are the same; those made with another word are not."""
    same = [
        evaluation(tmp_path / n, [record(c, *d) for c, d in zip(WEEKS, dice)], anonymise="ours")
        for n, dice in (("a", FIRST), ("b", SECOND))
    ]
    found = compare(same)["measures"]["Dice"]["bladder"]["differences"][0]
    assert found["mean"] == pytest.approx(0.02) and found["patients"] == 3
    other = evaluation(tmp_path / "c", [record(c, *d) for c, d in zip(WEEKS, FIRST)], anonymise="theirs")
    assert "8 are in one run only" in refusal(compare, [same[0], other])


def runs_but(tmp_path: Path, records: list[CaseRecord] | None = None, **options) -> list[str]:
    """A run, and another one that is different."""
    usual = [record(case, *dice) for case, dice in zip(WEEKS, FIRST)]
    return [evaluation(tmp_path / "a", usual), evaluation(tmp_path / "b", records or usual, **options)]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_runs(tmp_path, count):
    message = refusal(compare, runs_but(tmp_path)[:count])
    assert message.startswith(f"{count} run(s)") and "two or more" in message


def test_no_file(tmp_path):
    runs = runs_but(tmp_path)
    (tmp_path / "empty").mkdir()
    for missing, named in (("empty", "empty/metrics.json"), ("nowhere", "nowhere"), ("a/other.json", "a/other.json")):
        message = refusal(compare, [runs[0], str(tmp_path / missing)])
        assert message.startswith(f"{tmp_path / named}: ") and "no such file" in message


@pytest.mark.parametrize(
    "text, words",
    [
        ("{}", "not the metrics of an evaluation"),
        ('{"class_names": ["a", "b"], "metric_per_case": []}', "not the metrics of an evaluation"),
        ("[1, 2]", "expected a JSON object"),
        ("<html>", "not readable as JSON"),
    ],
)
def test_no_metrics_file(tmp_path, text, words):
    runs = runs_but(tmp_path)
    file = tmp_path / "b" / "metrics.json"
    file.write_text(text)
    message = refusal(compare, runs)
    assert message.startswith(f"{file}: ") and words in message


def test_without_truth(tmp_path):
    bare = {"status": "predicted", "predicted_ml": 40.0}
    records = [CaseRecord(case, case[:8], None, {"bladder": bare, "prostate": bare}) for case in WEEKS]
    message = refusal(compare, runs_but(tmp_path, records, has_truth=False))
    assert message.startswith(f"{tmp_path / 'b' / 'metrics.json'}: ") and "with truth" in message


def test_other_classes(tmp_path):
    others = ["background", "bladder", "rectum"]
    records = [record(case, *dice) for case, dice in zip(WEEKS, FIRST)]
    for one in records:
        one.measures = dict(zip(others[1:], one.measures.values()))
    message = refusal(compare, runs_but(tmp_path, records, names=others))
    assert "class_names" in message and "rectum" in message and "prostate" in message
    assert message.index(str(tmp_path / "b")) < message.index(str(tmp_path / "a"))


def test_other_tolerance(tmp_path):
    message = refusal(compare, runs_but(tmp_path, tolerance_mm=3.0))
    assert "tolerance_mm is 3.0, expected 2.0" in message and str(tmp_path / "a") in message


@pytest.mark.parametrize(
    "cases, number, named, where",
    [
        (WEEKS[:3], 1, "017 week 0", "a"),
        ([*WEEKS, "Case_020_Week5"], 1, "020 week 5", "b"),
        ([*WEEKS[:3], "Case_001_Week0"], 2, "001 week 0", "b"),
    ],
)
def test_other_cases_are_named(tmp_path, cases, number, named, where):
    runs = runs_but(tmp_path, [record(case, 0.5, 0.5) for case in cases])
    message = refusal(compare, runs)
    assert f"{number} are in one run only, such as {named} in {tmp_path / where}" in message


def test_another_truth(tmp_path):
    """The same cases with a structure of another size."""
    records = [record(case, *dice) for case, dice in zip(WEEKS, FIRST)]
    found = records[2].measures["prostate"]
    before, found["n_ref"] = found["n_ref"], found["n_ref"] + 7
    message = refusal(compare, runs_but(tmp_path, records))
    assert f"{WEEKS[2]}, prostate has {before + 7} voxels, expected {before}" in message
    third = [evaluation(tmp_path / "c", [record(c, *d) for c, d in zip(WEEKS, SECOND)])]
    assert refusal(compare, [str(tmp_path / "a"), *third, str(tmp_path / "b")]) == message


def test_no_case_at_all(tmp_path):
    """An evaluation that scored nothing leaves nothing to compare."""
    content = {"class_names": NAMES, "metric_per_case": [], "tolerance_mm": 2.0, "has_truth": True}
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
    assert "case" in refusal(compare, [str(tmp_path / "a"), str(tmp_path / "b")])


def test_two_cases_of_one_key(tmp_path):
    """Two sites may each have a case 1 of week 0. Equal names tell them apart; by patient and week, one must not
    replace the other without an error."""
    names = ["north_Case_001_Week0", "south_Case_001_Week0"]
    for run, end in (("a", ""), ("b", ""), ("c", "_seg")):
        evaluation(tmp_path / run, [record(name + end, dice, 0.5) for name, dice in zip(names, (0.5, 0.9))])
    found = compare([str(tmp_path / run) for run in "ab"])
    assert [(case["case"], case["values"]["bladder"]) for case in found["cases"]] == [
        (names[0], [0.5, 0.5]),
        (names[1], [0.9, 0.9]),
    ]
    assert "have names of the same case" in refusal(compare, [str(tmp_path / run) for run in "ac"])


def grouped(folder: Path, patients: str) -> str:
    """A run whose cases are of these patients."""
    return evaluation(folder, [record(case, 0.5, 0.5, patient=patient) for case, patient in zip(WEEKS, patients)])


def test_other_patients(tmp_path):
    """Which cases are of one patient must be the same in all runs; what patients are called need not."""
    runs = {patients: grouped(tmp_path / patients, patients) for patients in ("aabc", "xxyz", "abcd", "aabb")}
    assert compare([runs["aabc"], runs["xxyz"]])["foreground"]["differences"][0]["patients"] == 3
    for first, second, pair, where in (
        ("aabc", "abcd", WEEKS[:2], "aabc"),
        ("abcd", "aabc", WEEKS[:2], "aabc"),
        ("aabc", "aabb", WEEKS[2:], "aabb"),
    ):
        message = refusal(compare, [runs[first], runs[second]])
        assert message.startswith(f"{runs[second]}/metrics.json: other patients than {runs[first]}/metrics.json: ")
        assert f"{pair[0]} and {pair[1]} are of one patient in {runs[where]}/metrics.json only; " in message
