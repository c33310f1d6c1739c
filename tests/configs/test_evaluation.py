"""The shipped evaluation and inference, on the weights of a tiny training."""

import gzip
import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import EVALUATE, read, run, segment
from helpers import measured
from scipy.ndimage import label

from scripts.data import datalist
from scripts.report import commands
from scripts.report.measures import MEASURES


@pytest.fixture(scope="module")
def scored(trained, phantoms, tmp_path_factory):
    """The training after an evaluation of its test split and an inference on it, which is in maps/."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("scored") / "trained")
    run("evaluate", EVALUATE, dataset_dir=phantoms, output_dir=folder, ckpt_dir=folder / "models")
    segment(folder, folder / "maps", pictures=False)
    return folder


def test_evaluation_scores_the_test_split_on_the_original_grid(trained_copy, phantoms):
    run(
        "evaluate",
        EVALUATE,
        dataset_dir=phantoms,
        output_dir=trained_copy,
        ckpt_dir=trained_copy / "models",
        spatial_size=[48, 48, 32],
        charts=True,
    )
    listed = json.loads((trained_copy / "datalist.json").read_text())["test"]
    written = json.loads((trained_copy / "metrics.json").read_text())
    assert [case["patient"] for case in written["metric_per_case"]] == sorted(entry["patient"] for entry in listed)
    assert set(written["classes"]) == set(read("train.json")["class_names"][1:])
    shown = dict(written["about"])
    assert hashlib.sha256((trained_copy / "models" / "model.pt").read_bytes()).hexdigest() in shown["Checkpoint"]
    assert hashlib.sha256((trained_copy / "datalist.json").read_bytes()).hexdigest() in shown["Data list"]
    assert shown["Split"] == "test" and "not patients" in shown["Trained on"] and "s median" in shown["Time per case"]
    text = (trained_copy / "report.md").read_text()
    assert "Research use only" in text and listed[0]["patient"] in text
    page = (trained_copy / "report.html").read_text()
    assert "Training" in page and page.count("data:image/jpeg") > 20  # the curves too: history.csv is at hand


@pytest.mark.parametrize("anonymise", [True, "a word"])
def test_no_file_of_an_anonymous_report_holds_a_name(anonymise, trained, phantoms, tmp_path):
    given = {"dataset_dir": phantoms, "ckpt_dir": trained / "models", "anonymise": anonymise}
    run("evaluate", EVALUATE, **given, output_dir=tmp_path / "scores", datalist=trained / "datalist.json")
    run("infer", ["inference.json"], **given, output_dir=tmp_path / "maps")
    files = [path for folder in ("scores", "maps") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(files) > 4 + 3 + 2 * 10
    for file in files:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert b"Case_0" not in content and "Case_0" not in file.name, file.name


def test_evaluation_agrees_with_the_files_that_inference_writes(scored, phantoms):
    """Dice from the label maps on disk and the truth on disk, by counting voxels, equals the evaluation's."""
    labels = {
        datalist.case_name(e["image"]): phantoms / e["label"]
        for e in json.loads((scored / "datalist.json").read_text())["test"]
    }
    names = read("train.json")["class_names"]
    found_dice = measured(scored / "metrics.csv")
    assert sorted(found_dice) == sorted(labels)
    for case, dice in found_dice.items():
        truth = np.asarray(nib.load(labels[case]).dataobj)
        found = np.asarray(nib.load(scored / "maps" / f"{case}_seg.nii.gz").dataobj)
        for value, name in enumerate(names[1:], start=1):
            both, either = np.sum((truth == value) & (found == value)), np.sum(truth == value) + np.sum(found == value)
            assert dice[name] == pytest.approx(2 * both / either, abs=1e-4), name


def test_a_report_from_the_files_equals_the_evaluations(scored, phantoms, tmp_path):
    """Scored in the workflow or from the label maps that inference wrote: every measure of every case is the same."""
    listed = json.loads((scored / "datalist.json").read_text())["test"]
    for entry in listed:
        (tmp_path / "truth").mkdir(exist_ok=True)
        shutil.copy(phantoms / entry["label"], tmp_path / "truth")
    commands.evaluate(tmp_path / "truth", scored / "maps", tmp_path / "scores", read("train.json")["class_names"])
    for measure in MEASURES:
        own, other = (measured(folder / "metrics.csv", measure) for folder in (scored, tmp_path / "scores"))
        assert list(own) == list(other) and own
        for case in own:
            assert own[case] == pytest.approx(other[case], rel=1e-4, abs=1e-4, nan_ok=True), (measure, case)


def oblique(shape=(36, 30, 20)) -> np.ndarray:
    rotation = np.linalg.qr(np.array([[0.9, 0.3, -0.1], [-0.2, 0.95, 0.2], [0.15, -0.1, 0.97]]))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-5.0, 6.0, 4.0])
    affine[:3, 3] = [80, -70, -33]
    return affine


@pytest.mark.parametrize(
    "shape, affine",
    [
        ((36, 30, 20), oblique()),
        ((20, 36, 30), oblique()[:, [2, 0, 1, 3]]),
        ((33, 47, 21), np.diag([-3.3, -3.3, 5.0, 1.0])),
    ],
    ids=["oblique", "permuted axes", "odd sizes, LPS"],
)
def test_inference_answers_on_the_grid_it_was_given(shape, affine, trained, tmp_path):
    image = nib.Nifti1Image(np.random.default_rng(0).random(shape, np.float32), affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii.gz")
    run(
        "infer",
        ["inference.json"],
        dataset_dir=tmp_path / "scan.nii.gz",
        output_dir=tmp_path / "out",
        ckpt_dir=trained / "models",
        charts=True,
    )
    assert (tmp_path / "out" / "scan_overlay.png").stat().st_size > 10000
    result = nib.load(tmp_path / "out" / "scan_seg.nii.gz")
    assert result.shape == shape and result.get_data_dtype() == np.uint8
    assert np.array_equal(result.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    assert (int(result.header["sform_code"]), int(result.header["qform_code"])) == (2, 1)
    assert result.header.get_xyzt_units() == ("mm", "sec")


def test_an_ras_copy_gets_the_same_labels_in_space(trained, phantoms, tmp_path):
    source = nib.load(next(phantoms.glob("semantic_MRs*/*.nii.gz")))
    for name, image in (("lps", source), ("ras", nib.as_closest_canonical(source))):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    run(
        "infer",
        ["inference.json"],
        dataset_dir=tmp_path,
        output_dir=tmp_path / "out",
        ckpt_dir=trained / "models",
        pictures=False,
    )
    lps, ras = (nib.load(tmp_path / "out" / f"{name}_seg.nii.gz") for name in ("lps", "ras"))
    assert nib.aff2axcodes(lps.affine) == ("L", "P", "S") and nib.aff2axcodes(ras.affine) == ("R", "A", "S")
    assert np.array_equal(np.asarray(nib.as_closest_canonical(lps).dataobj), np.asarray(ras.dataobj))


def test_sliding_window_and_clean_up(trained, phantoms, tmp_path):
    """A window smaller than the volume still covers it; the clean-up leaves one piece of a class."""
    common = {"dataset_dir": trained / "datalist.json", "ckpt_dir": trained / "models", "pictures": False}
    pieces = {}
    for keep in (False, True):
        out = tmp_path / str(keep)
        run("infer", ["inference.json"], **common, output_dir=out, sliding_window=True, keep_largest=keep,
            single_piece=["prostate"])  # fmt: skip
        maps = [np.asarray(nib.load(file).dataobj) for file in sorted(out.glob("*_seg.nii.gz"))]
        pieces[keep] = [label(found == 5, np.ones((3, 3, 3)))[1] for found in maps]
    assert max(pieces[False]) > 1 == max(pieces[True])


def test_inference_says_what_the_weights_were_trained_on(scored):
    log = (scored / "maps" / "inference.log").read_text()
    assert "not patients" in log and "Research use only" in log
