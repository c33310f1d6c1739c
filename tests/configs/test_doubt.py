"""Inference and evaluation with several looks, on the weights of a tiny training."""

import csv
import json
import logging
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import EVALUATE, run, segment, workflow
from helpers import refusal, rows
from PIL import Image

from scripts.doubt import calibration, command, likeness
from scripts.doubt.signs import SIGNS
from scripts.inference import fastest
from scripts.phantoms.generate import generate

CALIBRATE = [*EVALUATE, "calibrate.json"]


def calibrated(trained, phantoms, folder, **overrides):
    """An evaluation of the validation cases with several looks; returns its folder."""
    given = {"dataset_dir": phantoms, "datalist": trained / "datalist.json", "ckpt_dir": trained / "models"}
    run("evaluate", CALIBRATE, **given, output_dir=folder, **overrides)
    return folder / "calibration"


@pytest.fixture(scope="module")
def learned(trained, phantoms, tmp_path_factory):
    """The training after such an evaluation, whose folder is in it. Six images are enough to tell others by."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("learned") / "trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "FEWEST", 3)
        calibrated(folder, phantoms, folder, charts=True)
    return folder


@pytest.fixture
def learned_copy(learned, tmp_path):
    """The same, for one test alone."""
    return shutil.copytree(learned, tmp_path / "learned")


def many_patients(run_dir, count=24):
    """The same evaluation as if it had many patients, whose Dice follows from their signs."""
    file = run_dir / "metrics.json"
    content = json.loads(file.read_text())
    names, rng = content["class_names"], np.random.default_rng(0)
    (first, *_) = content["metric_per_case"]
    content["metric_per_case"] = []
    for number in range(count):
        dice = float(rng.uniform(0.6, 0.95))
        signs = {name: dict.fromkeys(SIGNS, 0.1) | {"overlap": dice} for name in names[1:]}
        values = {"Dice": dice, "truth_ml": 2.0, "predicted_ml": 2.0}
        metrics = {str(value): first["metrics"][str(value)] | values for value in range(1, len(names))}
        status = dict.fromkeys(metrics, "scored")
        content["metric_per_case"].append(
            first | {"patient": f"p{number}", "signs": signs, "worse": [], "metrics": metrics, "status": status}
        )
    file.write_text(json.dumps(content))


def test_doubt_is_a_map_beside_a_label_map_that_stays_the_same(trained, tmp_path):
    segment(trained, tmp_path / "plain")
    segment(trained, tmp_path / "doubted", uncertainty=True)
    files = sorted((tmp_path / "plain").glob("*_seg.nii.gz"))
    assert len(files) == 2
    for file in files:
        labels, again = nib.load(file), nib.load(tmp_path / "doubted" / file.name)
        doubt = nib.load(tmp_path / "doubted" / file.name.replace("_seg", "_doubt"))
        assert np.array_equal(np.asarray(labels.dataobj), np.asarray(again.dataobj))
        found = np.asarray(doubt.dataobj)
        assert np.array_equal(doubt.affine, labels.affine) and found.dtype == np.uint8 and found.shape == labels.shape
        assert 10 < found.max() <= 100 and b"research use only" in bytes(doubt.header["descrip"])
    page = (tmp_path / "doubted" / "report.html").read_text()
    assert "Chance that the label is wrong" in page and "60% and more" in page
    assert page.count("data:image/jpeg") == page.count('alt="doubt') * 3 > 0
    segment(trained, tmp_path / "doubted")  # other labels would make a map of an earlier run wrong
    assert not list((tmp_path / "doubted").glob("*_doubt.nii.gz"))


def test_with_few_patients_no_dice_is_expected(learned, tmp_path):
    found = learned / "calibration"
    log = (learned / "evaluation.log").read_text()
    assert "prostate: Dice not predicted: fewer than 12 patients have it" in log
    kept = json.loads((learned / "models" / "model_doubt.json").read_text())
    assert kept["classes"] == {} and kept["patients"] == 1 and kept["looks"] == "shifts"
    cases = json.loads((found / "metrics.json").read_text())["metric_per_case"]
    assert all(set(signs) == set(SIGNS) for case in cases for signs in case["signs"].values())
    page = (found / "report.html").read_text()
    assert "Calibration of the probabilities" in page and "Expected Dice" not in page
    segment(learned, tmp_path / "maps", uncertainty=True)
    assert "expected_dice" not in (tmp_path / "maps" / "volumes.csv").read_text()


def test_what_is_learned_is_said_of_new_images(learned_copy, phantoms, tmp_path):
    found = learned_copy / "calibration"
    many_patients(found)
    weights = learned_copy / "models" / "model.pt"
    command.main(str(found), str(weights))
    segment(learned_copy, tmp_path / "maps", uncertainty=True)
    (first, *_) = table = rows(tmp_path / "maps" / "volumes.csv")
    assert len(table) == 2 and float(first["body_ml"]) > 0
    low, dice, high = (float(first[f"body_{name}"]) for name in ("dice_low", "expected_dice", "dice_high"))
    assert 0 <= low <= dice <= high <= 1 and float(first["body_ml_low"]) <= float(first["body_ml_high"])
    content = json.loads((tmp_path / "maps" / "metrics.json").read_text())
    expected = content["metric_per_case"][0]["expected"]["body"]
    assert round(expected["dice"], 3) == dice and content["doubt"]["looks"] == "shifts"
    volumes = (tmp_path / "maps" / "volumes.csv").read_text()
    segment(learned_copy, tmp_path / "maps", uncertainty=True, resume=True)  # what was said of kept cases stays
    assert (tmp_path / "maps" / "volumes.csv").read_text() == volumes
    page, text = ((tmp_path / "maps" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "Look at this first" in page and "where most is doubtful" in page and "nine of ten cases" in text
    cases = content["metric_per_case"]
    lowest = min((one["dice"], case["case"]) for case in cases for one in case["expected"].values())
    assert f"in {lowest[1]}" in text[: text.index("About" if "About" in text else "What was")]
    given = {"dataset_dir": phantoms, "datalist": learned_copy / "datalist.json", "ckpt_dir": weights.parent}
    run("evaluate", EVALUATE, **given, output_dir=tmp_path / "scores", uncertainty=True, charts=True)
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "Expected Dice" in page and "in the range" in page


def test_what_was_learned_of_other_weights_or_looks_is_not_used(learned_copy, tmp_path, caplog):
    found = learned_copy / "calibration"
    many_patients(found)
    weights = learned_copy / "models" / "model.pt"
    command.main(str(found), str(weights))
    assert calibration.find(str(weights), "shifts") is not None
    assert calibration.find(str(weights), "dropout") is None and "looks that differ in shifts" in caplog.text
    segment(learned_copy, tmp_path / "maps", uncertainty=True, doubt_from="dropout")
    assert "expected_dice" not in (tmp_path / "maps" / "volumes.csv").read_text()
    about, kept = weights.with_suffix(".json"), (weights.parent / "model_doubt.json").read_bytes()
    about.write_text(about.read_text().replace('"bladder"', '"kidney"'))
    assert "has the classes body, bones, bladder" in refusal(command.main, str(found), str(weights))
    assert (weights.parent / "model_doubt.json").read_bytes() == kept
    with weights.open("ab") as file:
        file.write(b"\0")
    assert calibration.find(str(weights), "shifts") is None and "other weights" in caplog.text


@pytest.mark.parametrize("make, said", [
    (lambda folder: None, "not found, expected the folder of an evaluation"),
    (lambda folder: (folder / "metrics.json").write_text('{"has_truth": true, "doubt": null}'), "found no looks in it"),
])  # fmt: skip
def test_a_folder_that_is_no_evaluation_with_looks_is_refused(make, said, tmp_path):
    (tmp_path / "model.pt").touch()
    make(tmp_path)
    assert said in refusal(command.main, str(tmp_path), str(tmp_path / "model.pt"))
    assert "correct --weights" in refusal(command.main, str(tmp_path), str(tmp_path / "none.pt"))
    twice = [str(tmp_path), str(tmp_path / ".")]
    assert "named twice" in refusal(command.main, twice, str(tmp_path / "model.pt"))


def test_codes_hide_names_in_the_maps_too(trained, tmp_path):
    segment(trained, tmp_path, uncertainty=True, anonymise="word")
    names = [file.name for file in tmp_path.glob("*_doubt.nii.gz")]
    assert len(names) == 2 and not any("Case" in name for name in names)
    with (tmp_path / "volumes.csv").open() as file:
        assert {f"{row['case']}_doubt.nii.gz" for row in csv.DictReader(file)} == set(names)


def test_images_of_another_kind_are_named_or_left_out(learned_copy, phantoms, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(likeness, "FEWEST", 3)
    listed = json.loads((learned_copy / "datalist.json").read_text())
    own = phantoms / listed["training"][0]["image"]
    other = tmp_path / "images" / "other.nii.gz"
    other.parent.mkdir()
    image = nib.load(own)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([1.45, 1.45, 1.45, 1]) @ image.affine), other)
    shutil.copy(own, other.parent)
    given = {"dataset_dir": other.parent, "ckpt_dir": learned_copy / "models"}
    run("infer", ["inference.json"], **given, output_dir=tmp_path / "warned", uncertainty=True)
    warnings = {case["case"]: case["warnings"] for case in records(tmp_path / "warned")}
    assert warnings["other"][0].startswith("unlike the training data: its voxel size is ")
    assert not any(line.startswith("unlike") for line in warnings[own.name.split(".")[0]])
    given |= {"output_dir": tmp_path / "skipped", "unlike": "skip"}
    assert "1 of 2 cases failed (other.nii.gz)" in refusal(run, "infer", ["inference.json"], **given)
    assert "say --unlike warn to segment it all the same" in caplog.text
    assert [case["case"] for case in records(tmp_path / "skipped")] == [own.name.split(".")[0]]
    weights = learned_copy / "models" / "model.pt"
    whole = calibration.read(str(weights)).fingerprint
    found, again = learned_copy / "calibration", tmp_path / "calibration2"
    shutil.copytree(found, again)
    command.main([str(found), str(again)], str(weights))  # two folds with the same training images
    both = calibration.read(str(weights)).fingerprint
    assert (both.images, both.voxels) == (whole.images, whole.voxels) and set(whole.clouds) - set(both.clouds) == {
        "depth"
    }


def records(folder) -> list[dict]:
    return json.loads((folder / "metrics.json").read_text())["metric_per_case"]


def test_cases_made_worse_are_kept_with_their_dice_and_what_was_learned_is_replaced(trained_copy, phantoms, tmp_path):
    weights = str(trained_copy / "models" / "model.pt")
    calibration.file_beside(weights).write_text('{"weights": 1}')
    assert "delete it" in refusal(calibration.find, weights, "shifts")
    found = calibrated(trained_copy, phantoms, tmp_path, worsened=2)  # does not read what it is about to replace
    assert calibration.find(weights, "shifts") is not None
    for case in records(found):
        assert len(case["worse"]) == 2 and case["worse"][0] != case["worse"][1]
        for one in case["worse"]:
            assert 0 <= one["dice"]["body"] <= 1 and set(one["signs"]["body"]) == set(SIGNS)


@pytest.mark.programs
def test_a_training_ends_with_learning_how_good_its_results_are(phantoms, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(likeness, "FEWEST", 3)
    given = {"dataset_dir": phantoms, "output_dir": tmp_path / "run", "ckpt_dir": tmp_path / "models"}
    given |= {"datalist": tmp_path / "datalist.json", "epochs": 1, "calibrate": True, "tolerance_mm": 1.0}
    run("train", ["train.json"], **given)
    weights = str(tmp_path / "models" / "model.pt")
    known = calibration.find(weights, "shifts")
    listed = json.loads((tmp_path / "datalist.json").read_text())
    assert known is not None and known.cases == len(listed["validation"])
    assert known.fingerprint is not None and known.fingerprint.images == len(listed["training"])
    scored = json.loads((tmp_path / "run" / "calibration" / "metrics.json").read_text())
    assert scored["tolerance_mm"] == 1.0 and scored["metric_per_case"][0]["worse"] == []
    file = calibration.file_beside(weights)
    before = file.stat().st_mtime_ns
    run("train", ["train.json"], **given, resume=True)
    assert file.stat().st_mtime_ns == before
    monkeypatch.setattr(calibration, "learn", lambda *_: 1 / 0)
    file.unlink()
    run("train", ["train.json"], **given, resume=True)
    assert "not learned how good results are: ZeroDivisionError" in caplog.text and not file.is_file()


def test_doubt_is_the_same_on_the_fast_path(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(fastest, "is_missing", lambda: True)  # no timing
    segment(trained, tmp_path / "plain", uncertainty=True)
    segment(trained, tmp_path / "fast", "fast.json", uncertainty=True, half=False)
    for file in (tmp_path / "plain").glob("*_doubt.nii.gz"):
        doubt, again = (np.asarray(nib.load(folder / file.name).dataobj) for folder in (file.parent, tmp_path / "fast"))
        assert (doubt != again).mean() < 0.01


def test_doubt_of_a_picture_is_a_picture(tmp_path):
    generate(tmp_path / "hearts", patients=3, scans=1, size=(64, 64), layout="cardiac_png")
    tiny = {"spatial_size": [64, 64], "widths": [4, 8, 16, 32, 64], "cache_workers": 1}
    made = workflow("infer", ["inference.json", "recipe_cardiac_2d.json"], base=tiny)
    made.initialize()
    (tmp_path / "models").mkdir()
    torch.save(made.parser.get_parsed_content("network_def").state_dict(), tmp_path / "models" / "model.pt")
    given = {"dataset_dir": tmp_path / "hearts", "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "maps"}
    run("infer", ["inference.json", "recipe_cardiac_2d.json"], base=tiny, **given, uncertainty=True)
    maps = sorted((tmp_path / "maps").glob("*_doubt.png"))
    assert maps and len(maps) == len(list((tmp_path / "maps").glob("*_seg.png")))
    with Image.open(maps[0]) as picture:
        assert picture.size == (64, 64) and picture.mode == "L" and 0 < np.asarray(picture).max() <= 100
    run("infer", ["inference.json", "recipe_cardiac_2d.json"], base=tiny, **given)
    assert not list((tmp_path / "maps").glob("*_doubt.png"))  # they were of other label maps
