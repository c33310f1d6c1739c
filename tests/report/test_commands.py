"""The commands for reports on folders of label maps: what is scored, what is refused and what is written."""

import json
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from conftest import BUNDLE, blank_charts
from helpers import measured, refusal, rows, save_labels

from scripts.report import commands
from scripts.report.measures import MEASURES

NAMES = ["background", "body", "prostate"]
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
WEEKS = [(4, 0), (4, 1), (5, 0), (6, 0)]


def truth_of(patient: int) -> np.ndarray:
    labels = np.zeros((16, 14, 12), np.uint8)
    labels[2:14, 2:12, 2:10] = 1
    labels[5 : 5 + patient % 4 + 2, 5:9, 4:8] = 2
    return labels


@pytest.fixture
def folders(tmp_path):
    """Four scans of three patients; every prediction is the truth, one voxel to the side."""
    for patient, week in WEEKS:
        name = f"Case_{patient:03d}_Week{week}"
        save_labels(tmp_path / "truth" / f"{name}_SEMANTIC_LFOV.nii.gz", truth_of(patient), AFFINE)
        save_labels(tmp_path / "pred" / f"{name}_LFOV_seg.nii.gz", np.roll(truth_of(patient), 1, 0), AFFINE)
        image = truth_of(patient) * 100.0 + np.arange(12)
        save_labels(tmp_path / "images" / f"{name}_LFOV.nii.gz", image, AFFINE, np.float32)
    return tmp_path


def evaluate(folder, charts=False, **options):
    with nullcontext() if charts else blank_charts():
        commands.evaluate(str(folder / "truth"), str(folder / "pred"), str(folder / "out"), NAMES, **options)
    return json.loads((folder / "out" / "metrics.json").read_text())


def test_everything_is_written(folders, capsys):
    written = evaluate(folders, charts=True, images=str(folders / "images"))
    assert {path.name for path in (folders / "out").iterdir()} == {
        "metrics.csv", "metrics.json", "report.html", "report.md"
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "mean foreground" in shown and "report.html" in shown
    table = rows(folders / "out" / "metrics.csv")
    assert len(table) == len(WEEKS) * 2 * len(MEASURES)
    assert {row["measure"] for row in table} == set(MEASURES)
    first = next(row for row in table if row["measure"] == "truth_ml" and row["class"] == "prostate")
    assert (first["case"], first["patient"], first["week"]) == ("Case_004_Week0_LFOV", "004", "0")
    assert float(first["value"]) == 2 * 4 * 4 * 0.02
    assert written["foreground"]["mean"] == pytest.approx(np.mean([written["mean"][v]["Dice"] for v in "12"]))
    page = (folders / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 4 * 4 and "data:image/svg+xml" in page


def test_maps_of_doubt_and_label_maps_are_no_predictions_and_no_images(folders):
    for patient, week in WEEKS:
        name = f"Case_{patient:03d}_Week{week}_LFOV"
        save_labels(folders / "pred" / f"{name}_doubt.nii.gz", np.full((16, 14, 12), 37), AFFINE)
        save_labels(folders / "images" / f"{name}_seg.nii.gz", truth_of(patient), AFFINE)
    written = evaluate(folders, images=str(folders / "images"))
    assert written["problems"] == [] and len(written["metric_per_case"]) == len(WEEKS)
    plain = (folders / "out" / "report.html").read_text()
    for file in (folders / "images").glob("*_seg.nii.gz"):
        file.unlink()
    evaluate(folders, images=str(folders / "images"))
    assert plain.count("data:image/jpeg") == (folders / "out" / "report.html").read_text().count("data:image/jpeg") > 0
    save_labels(folders / "images" / "Case_004_Week0_SFOV.nii.gz", truth_of(4), AFFINE)
    assert "1 file(s) left out" in refusal(evaluate, folders, images=str(folders / "images"))


def test_readers_of_nnunet_find_their_keys(folders):
    """The layout of nnU-Net's summary.json: labels as text, counts as whole numbers, means over the cases."""
    written = evaluate(folders)
    assert {"foreground_mean", "mean", "metric_per_case"} <= written.keys()
    keys = {"Dice", "IoU", "FN", "FP", "TN", "TP", "n_pred", "n_ref"}
    assert keys <= written["foreground_mean"].keys() and keys <= written["mean"]["1"].keys()
    for case in written["metric_per_case"]:
        assert case["prediction_file"].endswith("_seg.nii.gz") and case["reference_file"].endswith("LFOV.nii.gz")
        found = case["metrics"]["2"]
        assert all(isinstance(found[key], int) for key in keys - {"Dice", "IoU"})
        assert found["Dice"] == pytest.approx(2 * found["TP"] / (2 * found["TP"] + found["FP"] + found["FN"]))
        assert sum(found[key] for key in ("TP", "FP", "FN", "TN")) == 16 * 14 * 12
    dice = [case["metrics"]["2"]["Dice"] for case in written["metric_per_case"]]
    assert written["mean"]["2"]["Dice"] == pytest.approx(np.mean(dice))


def spoil(folder, what):
    """Makes one file wrong; returns its name and the words that its error line must have."""
    pred, truth = folder / "pred", folder / "truth"
    file, name = pred / "Case_005_Week0_LFOV_seg.nii.gz", "Case_005_Week0_LFOV_seg.nii.gz"
    if what == "shape":
        save_labels(file, truth_of(5)[1:], AFFINE)
        return name, "found shape (15, 14, 12), expected (16, 14, 12)"
    if what == "affine":
        save_labels(file, truth_of(5), np.diag([2.0, 2.0, 4.0, 1.0]))
        return name, "12.00 mm from where"
    if what == "missing":
        file.unlink()
        return "Case_005_Week0_SEMANTIC_LFOV.nii.gz", "no prediction for it"
    if what == "extra":
        save_labels(pred / "Case_009_Week0_LFOV_seg.nii.gz", truth_of(5), AFFINE)
        return "Case_009_Week0_LFOV_seg.nii.gz", "no truth for it"
    if what == "unknown label":
        save_labels(file, truth_of(5) * 3, AFFINE)
        return name, "found label 6; expected 0 to 2"
    if what == "float":
        save_labels(file, truth_of(5) * 0.7, AFFINE, np.float32)
        return name, "found 0.7, not a label"
    if what == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        return name, "not readable"
    if what == "wrong truth":
        save_labels(truth / "Case_005_Week0_SEMANTIC_LFOV.nii.gz", truth_of(5) + 5, AFFINE)
        return "Case_005_Week0_SEMANTIC_LFOV.nii.gz", "found label 7"
    raise AssertionError(what)


@pytest.mark.parametrize(
    "what", ["shape", "affine", "missing", "extra", "unknown label", "float", "truncated", "wrong truth"]
)
def test_one_wrong_file_is_named_and_the_rest_is_scored(what, folders, capsys):
    good = evaluate(folders)["metric_per_case"]
    capsys.readouterr()
    name, words = spoil(folders, what)
    message = refusal(evaluate, folders)
    assert "1 file(s) left out" in message
    (line,) = [line for line in capsys.readouterr().err.splitlines() if name in line]
    assert words in line
    written = json.loads((folders / "out" / "metrics.json").read_text())
    left = [case for case in good if what == "extra" or case["patient"] != "005"]
    assert written["metric_per_case"] == left and written["problems"] == [line]
    assert words.replace('"', "&#34;") in (folders / "out" / "report.html").read_text()


def test_several_wrong_files_and_the_exit_status(folders):
    """Run as a process: one line for each file and nothing else on standard error, and exit status 1."""
    for what in ("shape", "extra"):
        spoil(folders, what)
    save_labels(folders / "pred" / "Case_006_Week0_LFOV_seg.nii.gz", truth_of(6) / 4, AFFINE, np.float32)
    paths = [f"--{key}={folders / name}" for key, name in
             (("truth", "truth"), ("prediction", "pred"), ("output_dir", "out"))]  # fmt: skip
    command = [sys.executable, "-m", "scripts.report", "evaluate", *paths, f"--class_names={NAMES}"]
    done = subprocess.run(command, cwd=BUNDLE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(said) == 4 and "3 file(s) left out, 2 case(s) scored" in said[-1]
    for name in ("Case_005", "Case_006", "Case_009"):
        assert sum(name in line for line in said) == 1
    assert list(measured(folders / "out" / "metrics.csv")) == ["Case_004_Week0_LFOV", "Case_004_Week1_LFOV"]


def test_nothing_that_can_be_scored(folders, capsys):
    for file in (folders / "pred").iterdir():
        file.write_bytes(b"")
    assert "no case could be scored" in refusal(evaluate, folders)
    assert len(capsys.readouterr().err.splitlines()) >= len(WEEKS)
    assert not (folders / "out").exists()


@pytest.mark.parametrize("names", ["body", ["background"], ["a", "a"], None, 3])
def test_class_names_that_can_not_be_meant(names, folders):
    call = commands.evaluate, str(folders / "truth"), str(folders / "pred"), str(folders / "out"), names
    assert "class_names is" in refusal(*call)


@pytest.mark.parametrize(
    "what, words", [("grid", "found shape (16, 13, 12), expected (16, 14, 12)"), ("half", "not readable")]
)
def test_a_case_is_scored_whatever_its_image_is(what, words, folders, caplog):
    """The image serves for pictures alone: one that does not fit is named, and the picture is drawn without it."""
    file = folders / "images" / "Case_006_Week0_LFOV.nii.gz"
    if what == "grid":
        save_labels(file, truth_of(6)[:, 1:], AFFINE)
    else:
        file.write_bytes(file.read_bytes()[:-60])
    written = evaluate(folders, images=str(folders / "images"))
    assert written["problems"] == [] and len(written["metric_per_case"]) == len(WEEKS)
    (line,) = caplog.messages
    assert line.startswith(f"{file}: ") and words in line and "the case is scored" in line


def test_patients_of_a_data_list(folders):
    """These names do not say who the patient is. A data list does, and the interval changes with it."""
    for kind in ("truth", "pred"):
        for i, file in enumerate(sorted((folders / kind).iterdir())):
            file.rename(file.with_name(f"scan_{i}.nii.gz"))
    listed = {"training": [], "validation": [], "test": [{"image": f"i/scan_{i}.nii.gz", "patient": i % 2}
                                                         for i in range(4)]}  # fmt: skip
    (folders / "list.json").write_text(json.dumps(listed))
    alone, together = evaluate(folders), evaluate(folders, datalist_file=str(folders / "list.json"))
    assert list(alone["patients"]) == [f"scan_{i}" for i in range(4)] and list(together["patients"]) == ["0", "1"]
    assert alone["foreground"]["ci_naive"] is None
    assert together["foreground"]["ci_naive"] == alone["foreground"]["ci"] != together["foreground"]["ci"]


def patients_listed(folder, *entries) -> dict:
    file = folder / "list.json"
    file.write_text(json.dumps({"training": [], "validation": [], "test": entries}))
    return commands.patients_of(str(file))


def test_a_data_list_knows_patients_by_the_names_of_labels_too(tmp_path):
    named = {"image": "i/scan_7.nii.gz", "label": "l/truth_3.nii.gz", "patient": 4}
    assert patients_listed(tmp_path, named) == {"scan_7": "4", "truth_3": "4"}
    other = {"image": "i/truth_3.nii.gz", "label": "", "patient": 5}
    assert patients_listed(tmp_path, named, other)["truth_3"] == "4"  # the truth is a label
    assert patients_listed(tmp_path, "i/Case_004_Week1_LFOV.nii.gz") == {"004 week 1": "004"}


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"image": 7}, "the image 7"),
        ({"image": "a.nii", "label": ["b.nii"]}, "the label ['b.nii']"),
        ({"label": "b.nii"}, "the image None"),
        (3, "the image 3"),
    ],
)
def test_a_path_in_a_data_list_that_is_no_text(entry, words, tmp_path):
    message = refusal(patients_listed, tmp_path, entry)
    assert f"list.json: an entry under test has {words}, expected the path of a file" in message


@pytest.mark.parametrize("option", ["images", "datalist_file"])
def test_an_option_that_has_nothing_for_the_cases(option, folders, caplog):
    given = folders / ("images" if option == "images" else "list.json")
    listed = [f"Case_{patient:03d}_Week{week}_LFOV.nii.gz" for patient, week in WEEKS]
    patients_listed(folders, *listed[1:])
    if option == "images":
        (given / listed[0]).unlink()
    evaluate(folders, **{option: str(given)})
    (line,) = caplog.messages
    assert line.startswith(f"--{option} {given}: found nothing for 1 of 4 cases, such as Case_004_Week0_SEMANTIC")
    patients_listed(folders, "scan_1.nii.gz")
    for name in listed[1:] if option == "images" else ():
        (given / name).rename(given / f"other_{name[5:8]}_{name[13]}.nii.gz")
    assert f"--{option} {given}: found nothing for any case" in refusal(evaluate, folders, **{option: str(given)})


@pytest.mark.parametrize("word", [True, "secret"])
def test_codes_in_every_file(word, folders, capsys):
    spoil(folders, "shape")
    refusal(evaluate, folders, charts=True, images=str(folders / "images"), anonymise=word)
    for file in (folders / "out").iterdir():
        text = file.read_text()
        assert "Case_0" not in text and str(folders) not in text and "005" not in text.split("Versions")[0], file.name
    written = json.loads((folders / "out" / "metrics.json").read_text())
    codes = [case["case"] for case in written["metric_per_case"]]
    assert sorted(code[-3:] for code in codes) == ["-W0", "-W0", "-W1"] and len(set(codes)) == 3
    assert commands.code("Case_004_Week0_LFOV", word) in codes
    assert commands.code("Case_004_Week0_SEMANTIC_LFOV", word) in codes
    assert commands.code("Case_004_Week0_LFOV", "another") not in codes


def test_reports_made_with_one_word_can_be_compared(folders, tmp_path, capsys):
    for name in ("a", "b"):
        evaluate(folders, anonymise="word")
        (folders / "out").rename(tmp_path / name)
    commands.compare(str(tmp_path / "a"), str(tmp_path / "b" / "metrics.json"), output_dir=str(tmp_path / "both"))
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        "comparison.html", "comparison.json", "comparison.md"
    }  # fmt: skip
    assert "comparison.html" in capsys.readouterr().out
