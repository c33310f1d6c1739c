"""Strips: the right slice, side and pixels in any orientation of the file; small files, drawn fast."""

import base64
import io
import time
import warnings

import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from samples import CLASSES, full_size
from scipy.ndimage import binary_dilation, binary_erosion

from scripts.report.overlay import most_informative_slices
from scripts.report.strips import ERROR_COLOURS, FIELD_MM, SIDE, strip, strips

SHAPE, SPACING = (60, 50, 40), (2.0, 2.5, 4.0)
ORIENTATIONS = ["RAS", "LPS", "SPL"]
PLANE_OF = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In RAS order: a bladder (1) that is largest in the axial plane, most of its errors in z = 23, and a rod (2)."""
    image = np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32)
    image[50:, :, :] += 400  # the patient's right is bright
    truth = np.zeros(SHAPE, np.uint8)
    truth[15:35, 15:35, 20:26] = 1
    truth[8:10, 5:45, 4:36] = 2
    prediction = truth.copy()
    prediction[15:22, 15:35, 23] = 0
    prediction[35:40, 20:30, 23] = 1
    prediction[15, 15, 21] = 0
    prediction[30:33, 30:33, 23] = 2
    return image, truth, prediction


def stored(volume: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume as a file of that orientation holds it, with its affine."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = nib.Nifti1Image(volume, np.diag([*SPACING, 1.0])).as_reoriented(turn)
    return np.asarray(turned.dataobj), turned.affine


def pixels(tile: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(tile))).convert("RGB")) / 255


@pytest.mark.parametrize("value", [None, 1, 2])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_plane_and_slice_are_those_of_the_file(codes, value):
    volumes = [stored(volume, codes)[0] for volume in case()]
    affine = stored(case()[0], codes)[1]
    made, plain = strip(*volumes, affine, value), strip(*case(), np.diag([*SPACING, 1.0]), value)
    assert made["plane"] == plain["plane"] == PLANE_OF[codes[made["axis"]]]
    assert made["tiles"] == plain["tiles"]
    here = [np.take(volume, made["slice"], made["axis"]) for volume in volumes[1:]]
    there = [np.take(volume, plain["slice"], plain["axis"]) for volume in case()[1:]]
    assert [(plane == 1).sum() for plane in here] == [(plane == 1).sum() for plane in there]
    if value == 1:
        errors = ((volumes[1] == 1) != (volumes[2] == 1)).sum(tuple(i for i in range(3) if i != made["axis"]))
        assert made["plane"] == "axial" and errors.argmax() == made["slice"]


def test_a_class_is_shown_in_the_plane_where_it_covers_most_millimetres():
    _, truth, _ = case()
    rod = strip(None, truth, truth, np.diag([*SPACING, 1.0]), 2)
    assert rod["plane"] == "sagittal" and rod["slice"] in (8, 9)  # 40 x 32 voxels across x
    tall = np.diag([1.0, 10.0, 1.0, 1.0])  # the bladder's 20 x 20 voxels across z are 20 x 200 mm, across x 6 x 200
    assert strip(None, truth, truth, tall, 1)["plane"] == "axial"
    deep = np.diag([1.0, 1.0, 50.0, 1.0])  # and here it is 20 x 300 mm across x or y
    assert strip(None, truth, truth, deep, 1)["plane"] in ("sagittal", "coronal")


@pytest.mark.parametrize("value", [None, 1])
def test_a_single_slice_is_shown_from_its_front(value):
    """Although its voxels are ten times as thick, so that it covers more millimetres from the side."""
    labels = np.zeros((40, 30, 1), np.uint8)
    labels[5:20, 5:20] = 1
    made = strip(labels.astype(np.float32), None, labels, np.diag([1.0, 1.0, 10.0, 1.0]), value)
    assert (made["axis"], made["slice"]) == (2, 0)


def test_a_class_is_shown_where_most_of_it_is_wrong():
    truth = np.zeros(SHAPE, np.uint8)
    truth[20:30, 20:30, 10:20] = 1
    truth[18:32, 18:32, 17] = 1  # the largest, and right
    prediction = truth.copy()
    prediction[20:24, 20:30, 12] = 0
    prediction[30:32, 20:25, 14] = 1
    made = strip(None, truth, prediction, np.eye(4), 1)
    assert (made["plane"], made["slice"]) == ("axial", 12)


def test_of_slices_without_errors_the_largest():
    truth = np.zeros(SHAPE, np.uint8)
    truth[20:30, 20:30, 10:20] = 1
    truth[18:32, 18:32, 17] = 1
    made = strip(None, truth, truth, np.eye(4), 1)
    assert (made["plane"], made["slice"]) == ("axial", 17)


@pytest.mark.parametrize("doubtful, expected", [(None, 17), (12, 12)])
def test_without_a_truth_where_most_is_doubtful_or_else_the_largest(doubtful, expected):
    labels, doubt = np.zeros((2, *SHAPE), np.uint8)
    labels[20:30, 20:30, 10:20] = 1
    labels[18:32, 18:32, 17] = 1
    if doubtful is not None:
        doubt[22:26, 22:26, doubtful] = 40
    made = strip(None, None, labels, np.eye(4), 1, doubt)
    assert (made["plane"], made["slice"]) == ("axial", expected)


@pytest.mark.parametrize("truth_too", [True, False])
def test_all_classes_are_shown_in_the_slice_that_tells_most(truth_too):
    labels = np.zeros((20, 22, 24), np.uint8)
    labels[2:18, 2:18, 2:18] = 1
    labels[4, 5, 6:12], labels[12:15, 14:17, 8] = 2, 3  # y and z show each class, never all in full; x = 4 lacks 3
    made = strip(None, labels if truth_too else None, labels, np.eye(4))
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[made["plane"]]
    assert made["axis"] == axis and made["slice"] == most_informative_slices(labels)[axis]
    assert axis == 2  # z = 8 has all of 1, all of 3 and all that a slice can have of 2


@pytest.mark.parametrize("value", [None, 1, 2])
def test_millimetres_are_square_and_tiles_large_enough(value):
    made = strip(*case(), np.diag([*SPACING, 1.0]), value)
    shapes = {pixels(tile).shape for tile in made["tiles"].values()}
    assert len(shapes) == 1 and list(made["tiles"]) == ["image", "truth", "prediction", "error"]
    height, width, _ = shapes.pop()
    assert max(height, width) == SIDE
    if value is None:
        across, up = [n * mm for i, (n, mm) in enumerate(zip(SHAPE, SPACING)) if i != made["axis"]]
        assert abs(height / width - up / across) < 0.01


@pytest.mark.parametrize("radius", [1, 12])
def test_a_crop_is_close_but_never_narrow(radius):
    truth = np.zeros((128, 128, 32), np.uint8)
    truth[64 - radius : 64 + radius, 64 - radius : 64 + radius, 16] = 1
    blank = strip(None, truth, np.zeros_like(truth), np.diag([2.0, 2.0, 4.0, 1.0]), 1)
    found = np.flatnonzero(
        (pixels(blank["tiles"]["error"])[..., 2] < 0.5 * pixels(blank["tiles"]["error"])[..., 0]).any(0)
    )
    share = (found[-1] - found[0] + 1) / SIDE
    assert share * max(FIELD_MM, 4 * radius + 20) == pytest.approx(4 * radius, abs=2)


def test_the_patients_right_is_on_the_left():
    affine = np.diag([*SPACING, 1.0])
    picture = pixels(strip(*case(), affine)["tiles"]["image"]).mean(2)
    assert picture[:, :10].mean() > picture[:, -10:].mean() + 0.5
    errors = pixels(strip(*case(), affine, 1)["tiles"]["error"])
    missed, extra = (np.abs(errors - to_rgb(ERROR_COLOURS[kind])).max(2) < 0.2 for kind in ("missed", "extra"))
    assert missed.any() and extra.any()  # what is missed lies to the left of the bladder, what is extra to its right
    assert np.argwhere(extra)[:, 1].mean() < SIDE / 3 < 2 * SIDE / 3 < np.argwhere(missed)[:, 1].mean()


def test_error_colours_are_exactly_where_truth_and_prediction_differ():
    _, truth, prediction = case()
    made = strip(None, truth, prediction, np.diag([2.0, 2.0, 2.0, 1.0]))
    picture, z = pixels(made["tiles"]["error"]), made["slice"]
    assert made["plane"] == "axial"
    step = picture.shape[1] / SHAPE[0]
    a, b = (np.kron(volume[::-1, ::-1, z].T, np.ones((16, 16))) for volume in (truth, prediction))
    rows, columns = ((np.arange(n) + 0.5) / step * 16 for n in picture.shape[:2])
    a, b = (plane[np.ix_(rows.astype(int), columns.astype(int))] for plane in (a, b))
    kinds = {
        "missed": (a > 0) & (b == 0),
        "extra": (a == 0) & (b > 0),
        "wrong class": (a > 0) & (b > 0) & (a != b),
    }
    coloured = np.ptp(picture, axis=2) > 0.15  # the rest is grey
    differ = a != b
    assert differ.any() and not (coloured & ~binary_dilation(differ, iterations=3)).any()
    for kind, mask in kinds.items():
        inner = binary_erosion(mask, iterations=4)
        assert inner.any() and np.abs(picture[inner] - to_rgb(ERROR_COLOURS[kind])).mean(1).max() < 0.15


def test_error_colours_differ_in_lightness():
    linear = [np.array(to_rgb(hue)) ** 2.2 @ (0.2126, 0.7152, 0.0722) for hue in ERROR_COLOURS.values()]
    lightness = sorted(116 * y ** (1 / 3) - 16 for y in linear)
    assert min(np.diff(lightness)) > 15


def test_what_is_missing_is_left_out():
    image, truth, prediction = case()
    affine = np.diag([*SPACING, 1.0])
    assert list(strip(image, None, prediction, affine, 1)["tiles"]) == ["image", "prediction"]
    assert list(strip(None, truth, prediction, affine, 1)["tiles"]) == ["truth", "prediction", "error"]
    only = np.where(truth == 1, 1, 0)
    assert list(strips(image, only, np.where(truth == 2, 2, 0), affine, CLASSES)) == ["", "body", "bones"]
    assert list(strips(image, None, only, affine, CLASSES)) == ["", "body"]


@pytest.mark.parametrize("value", [None, 3])
@pytest.mark.parametrize("grey", [0.0, np.nan])
def test_a_flat_image_without_a_label_can_be_drawn(grey, value):
    nothing = np.zeros(SHAPE, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = strip(np.full(SHAPE, grey), nothing, nothing, np.eye(4), value)
    assert (made["plane"], made["slice"], made["axis"]) == ("axial", 20, 2) and len(made["tiles"]) == 4


def test_full_size_strips_are_small_and_fast():
    image, truth, prediction, affine = full_size()
    began = time.process_time()  # of this process alone: what else the machine does is not counted
    made = strips(image, truth, prediction, affine, CLASSES)
    assert (time.process_time() - began) / len(made) < 0.3  # seconds; a tenth of it is usual
    assert list(made) == ["", *CLASSES[1:]]
    for shown in made.values():
        assert sum(len(base64.b64decode(tile)) for tile in shown["tiles"].values()) < 70_000
