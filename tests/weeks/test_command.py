"""The command: which files it takes, what it writes, what it refuses, and that no name is left where it must not be."""

import json
import subprocess
import sys

import pytest
from conftest import BUNDLE
from helpers import refusal, rows, stubs
from scenes import NAMES, write

from scripts.data.anonymise import patient_code
from scripts.data.names import scan_date, scan_key
from scripts.weeks.command import main
from scripts.weeks.compare import compare, report_section
from scripts.weeks.scans import by_patient, find_label_maps, scan_of

SHIFT = (6.0, -4.0, 0.0)
FILES = {"weeks.json", "weeks.csv", "weeks.html", "weeks.md"}


@pytest.fixture
def maps(tmp_path):
    """Two patients with three and two weeks, one with a single scan."""
    folder = tmp_path / "maps"
    for patient, weeks in ((4, 3), (5, 2), (6, 1)):
        for week in range(weeks):
            moved = {"prostate": tuple(week * part for part in SHIFT)}
            write(folder, f"Case_{patient:03d}_Week{week}_LFOV_seg", moved=moved)
    return folder


def run(maps, **options) -> dict:
    main(str(maps), str(maps.parent / "out"), **{"class_names": NAMES, **options})
    return json.loads((maps.parent / "out" / "weeks.json").read_text())


def test_everything_is_written(maps, capsys):
    found = run(maps)
    assert {file.name for file in (maps.parent / "out").iterdir()} == FILES
    assert "2 patient(s) with two scans or more, 1 with one" in capsys.readouterr().out
    assert found["organs"] == ["bladder", "prostate"] and found["one_scan"] == ["006"] and found["problems"] == []
    assert [patient["patient"] for patient in found["patients"]] == ["004", "005"]
    left = found["population"]["prostate"]["left_mm"]
    assert left["mean_mm"] == pytest.approx((9 + 6) / 2, abs=0.4) and left["patients"] == 2 and left["scans"] == 3
    table = rows(maps.parent / "out" / "weeks.csv")
    assert len(table) == (3 + 2) * 2
    last = next(row for row in table if (row["patient"], row["scan"], row["organ"]) == ("004", "Week 2", "prostate"))
    assert float(last["left_mm"]) == pytest.approx(12, abs=0.4) and float(last["back_mm"]) == pytest.approx(-8, abs=0.4)
    assert float(last["residual_mm"]) < 0.1 and last["unit"] == "week"
    assert table[0]["left_mm"] == "" and float(table[0]["volume_ml"]) > 0


def test_tables_that_are_cut_short_name_the_file_that_has_the_rest(maps, monkeypatch):
    monkeypatch.setattr("scripts.report.tables.MOST_ROWS", 2)
    found = run(maps)
    text = (maps.parent / "out" / "weeks.html").read_text()
    assert "the first 2 of 10, the others are in weeks.json" in text  # organs
    assert "the first 2 of 3, the others are in weeks.json" in text and "metrics.json" not in text  # bones
    scans = [scan for patient in found["patients"] for scan in patient["scans"]]
    assert sum(len(scan["organs"]) for scan in scans) == 10 and sum(scan["bones"] is not None for scan in scans) == 3


def test_the_page_says_what_it_is_and_what_it_is_not(maps):
    run(maps)
    page, text = ((maps.parent / "out" / f"weeks.{kind}").read_text() for kind in ("html", "md"))
    for words in (
        "Research use only",
        "2.5 Σ + 0.7 σ",
        "rough with fewer than about 10",
        "Patient",
        "left, back and head",
    ):
        assert words in page and words in text, words
    assert page.count("data:image/svg+xml") == 2 and "://" not in page and "<script" not in page
    assert "006" in page and "nothing to compare" in page


def test_one_patient_has_no_margin(maps):
    for file in maps.glob("Case_005*"):
        file.unlink()
    found = run(maps)
    left = found["population"]["prostate"]["left_mm"]
    assert left["systematic_mm"] is None and left["margin_mm"] is None and left["random_mm"] is not None
    assert "no margin to compute" in (maps.parent / "out" / "weeks.html").read_text()


def test_scans_of_one_week_only_are_listed(maps):
    for file in maps.glob("*Week[12]*"):
        file.unlink()
    found = run(maps)
    assert found["patients"] == [] and found["one_scan"] == ["004", "005", "006"]
    assert found["population"]["prostate"]["head_mm"]["mean_mm"] is None


def test_a_bad_file_is_one_line_and_the_others_go_on(maps, capsys):
    (maps / "Case_004_Week1_LFOV_seg.nii.gz").write_bytes(b"x")
    assert "1 file(s) left out" in refusal(run, maps)
    found = json.loads((maps.parent / "out" / "weeks.json").read_text())
    assert [scan["name"] for scan in found["patients"][0]["scans"]] == ["Week 0", "Week 2"]
    assert len(found["problems"]) == 1 and "Case_004_Week1_LFOV_seg.nii.gz: not readable" in found["problems"][0]
    assert found["problems"][0] in capsys.readouterr().err


def test_no_name_is_left_in_an_anonymised_page(maps):
    (maps / "Case_005_Week2_LFOV_seg.nii.gz").write_bytes(b"x")
    refusal(run, maps, anonymise="ours")
    for file in (maps.parent / "out").iterdir():
        text = file.read_text()
        assert "Case_" not in text and str(maps) not in text and "LFOV" not in text, file
        assert not {"004", "005", "006"} & set(text.replace('"', ",").replace(" ", ",").split(",")), file
    found = json.loads((maps.parent / "out" / "weeks.json").read_text())
    assert [patient["patient"] for patient in found["patients"]] == sorted(
        patient_code(p, "ours") for p in ("004", "005")
    )
    assert found["one_scan"] == [patient_code("006", "ours")]


def test_other_classes_have_other_names(maps):
    names = ["air", "rest", "skeleton", "left lung", "heart"]
    found = run(maps, class_names=names, bones="skeleton", organs=["heart"])
    assert found["organs"] == ["heart"] and set(found["population"]) == {"heart"}
    assert "bones: no such class" in refusal(run, maps, class_names=names)
    assert "did you mean heart?" in refusal(run, maps, class_names=names, bones="skeleton", organs="hart")


def test_classes_are_those_that_inference_noted(maps):
    (maps / "metrics.json").write_text(json.dumps({"class_names": NAMES}))
    assert run(maps, class_names=None)["class_names"] == NAMES


def test_too_few_class_names_are_lines(maps, capsys):
    assert "5 file(s) left out" in refusal(run, maps, class_names=NAMES[:4])
    assert "--class_names" in capsys.readouterr().err


def test_a_good_report_stays_where_no_file_can_be_used(maps):
    run(maps)
    before = (maps.parent / "out" / "weeks.csv").read_bytes()
    said = refusal(run, maps, class_names=["background", "bones"])
    assert "5 file(s) left out, and without them no patient has two scans" in said
    assert (maps.parent / "out" / "weeks.csv").read_bytes() == before


def test_label_maps_beside_images_and_pictures(tmp_path):
    names = ["a_seg.nii.gz", "a.nii.gz", "sub/b_seg.nii", "a_overlay.png"]
    stubs(tmp_path, names)
    assert [file.name for file in find_label_maps(tmp_path)] == ["a_seg.nii.gz", "b_seg.nii"]
    stubs(tmp_path / "truth", ["Case_004_Week0_SEMANTIC_LFOV.nii.gz"])
    assert len(find_label_maps(tmp_path / "truth")) == 1
    (tmp_path / "empty").mkdir()
    assert "contains no NIfTI file" in refusal(find_label_maps, tmp_path / "empty")
    assert "does not exist" in refusal(find_label_maps, tmp_path / "nowhere")


def listed(tmp_path, *names: str):
    return by_patient([scan_of(name, tmp_path / f"{name}.nii.gz") for name in names])


def test_scans_are_in_the_order_of_time(tmp_path):
    weekly = "Case_004_Week10_seg", "Case_004_Week2_seg", "C004_Week1"
    dated = "MRN7_20240201_s5_t2_seg", "MRN7_20240131_s9_t2_seg", "x_1_20231231_s1_a_seg", "x_1_20230101_s12_a_seg"
    found, problems = listed(tmp_path, *weekly, *dated)
    assert problems == []
    assert [scan.week for scan in found["004"]] == [1, 2, 10]
    assert [scan.date for scan in found["MRN7"]] == ["20240131", "20240201"]
    assert [scan.date for scan in found["x_1"]] == ["20230101", "20231231"]


def test_names_of_an_anonymised_inference_are_known(tmp_path):
    found, problems = listed(tmp_path, "P1fbe705f-W3_seg", "P1fbe705f-W0_seg", "P74e20d04_seg")
    assert [scan.week for scan in found["P1fbe705f"]] == [0, 3] and len(found) == 2 and problems == []


@pytest.mark.parametrize(
    "names, words",
    [
        (["a_undated_s1_t2_seg", "a_undated_s2_t2_seg"], "neither week nor date"),
        (["a_20241301_s1_t2_seg", "a_20240101_s2_t2_seg"], "neither week nor date"),
        (["a_20240101_s1_t2_seg", "a_20240101_s2_t2_seg"], "the same patient and time as a_20240101_s1_t2_seg.nii.gz"),
        (["Case_004_Week1_seg", "C004_Week1_seg"], "the same patient and time as"),
        (["Case_004_Week1_seg", "004_20240101_s1_t2_seg"], "found a date in its name, other scans of 004 have a week"),
    ],
)
def test_scans_without_a_place_are_lines(names, words, tmp_path):
    _, problems = listed(tmp_path, *names)
    assert problems and all(words in line and len(line.splitlines()) == 1 for line in problems)


def test_a_single_scan_needs_no_date(tmp_path):
    found, problems = listed(tmp_path, "a_undated_s1_t2_seg", "prostate_01_seg")
    assert set(found) == {"a", "prostate_01"} and problems == []


def test_names_that_come_from_dicom():
    name = "MRN_7_20240131_s5_t2-axial_seg.nii.gz"
    assert scan_key(name) == ("MRN_7", None) and scan_date(name) == "20240131"
    assert scan_date("MRN_undated_s5.nii.gz") is None and scan_key("MRN_undated_s5.nii.gz") == ("MRN", None)
    assert scan_date("Case_004_Week0.nii.gz") is None and scan_key("Case_004_Week0_LFOV.nii.gz") == ("004", 0)


def test_dates_become_days(tmp_path):
    """A date may lead to a person; the days between the scans don't."""
    for name in ("MRN7_20240228_s2_t2_seg", "MRN7_20240301_s1_t2_seg"):
        write(tmp_path / "maps", name)
    found = run(tmp_path / "maps", anonymise="ours")
    assert [(scan["name"], scan["time"]) for scan in found["patients"][0]["scans"]] == [("Day 0", 0), ("Day 2", 2)]
    for file in (tmp_path / "out").iterdir():
        assert (
            "2024022" not in file.read_text() and "20240301" not in file.read_text() and "MRN7" not in file.read_text()
        )


def scans_of(maps):
    return [scan_of(file.name, file) for file in sorted(maps.iterdir())]


def test_the_section_of_a_report_has_the_same_figures(maps):
    section = report_section(scans_of(maps), NAMES, None)
    weeks = compare(scans_of(maps), NAMES, "bones", ["bladder", "prostate"])
    assert section.problems == [] and [row[:3] for row in section.rows][:2] == [
        ("004", "Week 1", "bladder"), ("004", "Week 1", "prostate")
    ]  # fmt: skip
    assert len(section.rows) == (2 + 1) * 2
    assert section.rows[1][3][1] == weeks.patients[0].scans[1].organs["prostate"].left_mm


def test_no_section_without_bones_or_a_second_scan(maps):
    assert report_section(scans_of(maps), [*NAMES[:2], "liver", *NAMES[3:]], None) is None
    assert (
        report_section([scan_of("Case_006_Week0_LFOV_seg", maps / "x"), scan_of("a", maps / "y")], NAMES, None) is None
    )


def test_a_mistake_is_one_line_and_an_exit_status():
    words = [sys.executable, "-m", "scripts.weeks", "--predictions", "nowhere", "--output_dir", "out"]
    done = subprocess.run(words, cwd=BUNDLE, capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere: predictions does not exist" in done.stderr.splitlines()[-1]
