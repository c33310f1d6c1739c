"""The phantoms: same seed, same bytes; the shares and names of HipMRI; anatomy that does not depend on the grid."""

import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.core.errors import UserError
from scripts.phantoms.generate import CLASSES, NOISE, SIGNALS, acquire, generate, make_scan
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.pelvis import PROSTATE, RECTUM, draw_build, draw_filling, render_pelvis
from scripts.phantoms.shapes import FIELD_MM

SIZE = (64, 64, 32)
HIPMRI_SHARES = [60.35, 35.46, 3.37, 0.57, 0.14, 0.10]  # per cent of the voxels
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "voxel_classifier.py"


@pytest.fixture(scope="module")
def labels():
    """Label maps of two weeks of twelve patients, (patient, week) as key."""
    return {(patient, week): make_scan(patient, week, SIZE)[1] for patient in range(12) for week in range(2)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with two weeks of two patients, and its pairs of paths."""
    folder = tmp_path_factory.mktemp("phantoms")
    return folder, generate(folder, patients=2, scans=2, size=SIZE, seed=3)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def dice(a, b):
    return 2 * np.sum(a & b) / (np.sum(a) + np.sum(b))


def test_same_seed_writes_the_same_bytes(written, tmp_path):
    folder, _ = written
    generate(tmp_path, patients=2, scans=2, size=SIZE, seed=3)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_makes_other_images_and_labels(written, tmp_path):
    _, pairs = written
    for old, new in zip(pairs[0], generate(tmp_path, patients=1, scans=1, size=SIZE, seed=4)[0], strict=True):
        assert old.name == new.name
        assert np.any(nib.load(old).get_fdata() != nib.load(new).get_fdata())


def test_a_patient_does_not_depend_on_the_others(written, tmp_path):
    _, pairs = written
    (alone,) = generate(tmp_path, patients=1, scans=1, size=SIZE, seed=3, first_patient=5)
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in pairs[2]]


def test_shares_are_those_of_hipmri(labels):
    counts = np.array([np.bincount(label.ravel(), minlength=len(CLASSES)) for label in labels.values()])
    assert counts.min() > 0  # every class in every scan
    ratio = 100 * counts.sum(0) / counts.sum() / HIPMRI_SHARES
    assert np.all(ratio < 2) and np.all(ratio > 0.5), ratio


def test_header_is_lps_with_hipmri_field_of_view(written):
    for path in written[1][0]:
        image = nib.load(path)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert np.allclose(np.array(image.header.get_zooms()) * SIZE, FIELD_MM, rtol=1e-5)
        centre = image.affine @ [*((np.array(SIZE) - 1) / 2), 1]
        assert np.allclose(centre[:3], 0, atol=1e-3)
        assert (image.get_sform(coded=True)[1], image.get_qform(coded=True)[1]) == (1, 1)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert b"not a patient" in image.header["descrip"].item()
    image, label = (nib.load(path) for path in written[1][0])
    assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
    assert np.asarray(image.dataobj).min() >= 0 and 400 < np.asarray(image.dataobj).max() < 2000


def test_upper_rectum_bends_to_the_patients_left(written):
    for _, path in written[1]:
        image = nib.load(path)
        right, _, up = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) == RECTUM)).T
        low, high = np.quantile(up, [1 / 3, 2 / 3])
        assert right[up >= high].mean() < right[up <= low].mean() - 5  # world x grows to the right


def test_upper_rectum_bends_to_the_left_in_every_patient(labels):
    for key, label in labels.items():
        left, _, up = np.nonzero(label == RECTUM)
        low, high = np.quantile(up, [1 / 3, 2 / 3])
        assert (left[up >= high].mean() - left[up <= low].mean()) * FIELD_MM[0] / SIZE[0] > 5, key


def test_anatomy_does_not_depend_on_the_grid():
    fine, coarse = (make_scan(7, 1, size)[1] for size in ((128, 128, 64), SIZE))
    for index, name in enumerate(CLASSES):
        share = (fine == index).reshape(64, 2, 64, 2, 32, 2).mean((1, 3, 5))
        assert dice(share > 0.5, coarse == index) > 0.85, name


def test_weeks_share_the_build_but_not_the_filling(labels):
    volumes = np.array([np.bincount(label.ravel(), minlength=len(CLASSES)) for label in labels.values()])
    bladder, prostate = (volumes[:, index].reshape(12, 2) for index in (3, PROSTATE))
    assert np.mean(np.abs(np.log(bladder[:, 0] / bladder[:, 1]))) > 0.2
    drawn = np.array([draw_filling(np.random.default_rng(i)).bladder_ml for i in range(200)])
    assert np.median(np.abs(np.log(drawn[::2] / drawn[1::2]))) > 0.3  # what twelve patients are too few to show
    assert np.all(np.abs(np.log(prostate[:, 0] / prostate[:, 1])) < 0.35)  # the rest is voxels of 0.28 ml
    same = [dice(labels[p, 0] > 0, labels[p, 1] > 0) for p in range(12)]
    other = [dice(labels[p, 0] > 0, labels[(p + 1) % 12, 0] > 0) for p in range(12)]
    assert np.mean(same) > np.mean(other) + 0.02


def test_organs_touch_neither_air_nor_the_skin(labels):
    for key, label in labels.items():
        outside = label == 0
        for axis in (0, 1):
            for step in (-1, 1):
                assert not np.any(np.roll(outside, step, axis) & (label >= 3)), key


def test_signal_has_partial_volume_at_borders():
    build, filling = draw_build(np.random.default_rng(1)), draw_filling(np.random.default_rng(2))
    signals = dict.fromkeys(SIGNALS, 0.0) | {"urine": 1.0}
    label, signal = render_pelvis(SIZE, build, filling, signals)
    mixed = (signal > 0.1) & (signal < 0.9)
    assert np.sum(mixed & (label == 3)) > 20
    assert np.sum(signal[label == 3] > 0.99) > 20


def test_acquisition_without_noise_and_bias_only_scales():
    signal = np.random.default_rng(0).uniform(0, 1.5, SIZE).astype(np.float32)
    image = acquire(signal, np.random.default_rng(1), bias=0, noise=0)
    gain = np.random.default_rng(1).uniform(350, 600)
    assert np.abs(image - gain * signal).max() <= 0.51


def test_noise_is_rician_where_there_is_air():
    rng = np.random.default_rng(1)
    image = acquire(np.zeros(SIZE, np.float32), rng, bias=0)
    gain = np.random.default_rng(1).uniform(350, 600)
    assert image.mean() == pytest.approx(gain * NOISE * np.sqrt(np.pi / 2), rel=0.01)


@pytest.mark.parametrize(
    ("layout", "image", "label"),
    [
        (
            "hipmri",
            "semantic_MRs_anon/Case_004_Week0_LFOV.nii.gz",
            "semantic_labels_anon/Case_004_Week0_SEMANTIC_LFOV.nii.gz",
        ),
        ("hipmri_short", "semantic_MRs/C004_Week0_LFOV.nii.gz", "semantic_labels_only/C004_Week0_SEMANTIC.nii.gz"),
        ("decathlon", "imagesTr/Case_004_Week0.nii.gz", "labelsTr/Case_004_Week0.nii.gz"),
    ],
)
def test_layout_names(tmp_path, layout, image, label):
    pairs = generate(tmp_path, patients=1, scans=1, size=(16, 16, 16), layout=layout)
    assert pairs == [(tmp_path / image, tmp_path / label)]
    extra = {"phantom.json", "dataset.json"} if layout == "decathlon" else {"phantom.json"}
    assert set(contents(tmp_path)) == {image, label} | extra  # nothing partial stays behind
    assert "not patients" in json.loads((tmp_path / "phantom.json").read_text())["description"]


def test_decathlon_listing(tmp_path):
    generate(tmp_path, patients=2, scans=2, size=(16, 16, 16), layout="decathlon")
    listing = json.loads((tmp_path / "dataset.json").read_text())
    assert listing["numTraining"] == len(listing["training"]) == 4
    assert listing["labels"] == {str(index): name for index, name in enumerate(CLASSES)}
    for pair in listing["training"]:
        assert (tmp_path / pair["image"]).is_file() and (tmp_path / pair["label"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": (64, 64)}, ["size", "(64, 64)", "16 to 512"]),
        ({"size": (64, 64, 8)}, ["size", "16 to 512"]),
        ({"size": (64, 64, 1.5)}, ["size", "whole numbers"]),
        ({"size": 64}, ["size", "64"]),
        ({"patients": 0}, ["patients", "0", "at least 1"]),
        ({"scans": 0}, ["scans", "0", "at least 1"]),
        ({"seed": -1}, ["seed", "-1", "at least 0"]),
        ({"layout": "decatlon"}, ["layout", "decatlon", "decathlon", *LAYOUTS]),
        ({"layout": "cardiac_png", "size": (96, 96, 96)}, ["size", "two whole numbers", "(96,96)"]),
        ({"layout": "cardiac_png", "size": (96, 8)}, ["size", "16 to 512"]),
        ({"layout": "lgg_tiff", "size": 256}, ["size", "256", "two", "(256,256)"]),
        ({"layout": "lgg_tiff", "size": (64.5, 64)}, ["size", "whole numbers"]),
        ({"layout": "keras_slices", "size": (64, 64)}, ["size", "three whole numbers"]),
        ({"layout": "keras_slices", "patients": 2}, ["patients", "2", "at least 3"]),
        ({"layout": "cardiac_png", "patients": 1}, ["patients", "1", "at least 3"]),
        ({"layout": "keras_slices", "size": (16, 16, 16), "slices": 17}, ["slices", "17", "at most 16"]),
        ({"layout": "lgg_tiff", "slices": 0}, ["slices", "0", "at least 1"]),
        ({"layout": "lgg_tiff", "slices": 513}, ["slices", "at most 512"]),
        ({"layout": "lgg_tiff", "scans": 2}, ["scans", "2", "leave --scans out"]),
        ({"layout": "cardiac_png", "slices": 3}, ["slices", "3", "leave --slices out"]),
        ({"layout": "hipmri", "slices": 3}, ["slices", "3", "leave --slices out"]),
        ({"layout": "lgg_tif"}, ["layout", "lgg_tif", "lgg_tiff"]),
    ],
)
def test_bad_arguments_end_in_one_line(tmp_path, arguments, words):
    with pytest.raises(UserError) as error:
        generate(tmp_path / "new", **arguments)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_intensity_and_position_alone_do_not_solve_the_phantoms():
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("voxel_classifier", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, scores = module.run(patients=10, scans=1, test_patients=4)
    assert scores[1:].mean() < 0.75
