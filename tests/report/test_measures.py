"""Every measure against an independent computation: by hand, pair by pair, by MONAI and by DeepMind's package."""

import json
import warnings
from itertools import permutations

import numpy as np
import pytest
import surface_distance as deepmind
import torch
from helpers import measured
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from monai.networks.utils import one_hot
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.distance import cdist
from sklearn.metrics import confusion_matrix

from scripts.phantoms.generate import CLASSES, make_scan
from scripts.phantoms.shapes import voxel_mm
from scripts.report.comparison import compare
from scripts.report.files import build, write
from scripts.report.measures import COUNTS, MEASURES, ClassPair, Measure, measure_classes
from scripts.report.records import measure_case

SPACING = (1.5, 0.8, 3.0)
NAMES = ["background", "bladder"]
OVERLAP = ("Dice", "IoU", "sensitivity", "precision")
SURFACE = ("hd95_mm", "mean_surface_distance_mm", "surface_dice")
ZERO_IF_MISSED = ("Dice", "IoU", "sensitivity", "surface_dice")
VOLUME = ("truth_ml", "predicted_ml", "difference_ml")


def surface_points(mask: np.ndarray, spacing) -> np.ndarray:
    """Voxels of the mask of whose six neighbours one lies outside it, or outside the volume; in mm."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)
    return np.argwhere(padded & ~inner) * np.array(spacing)


def percentile(values: np.ndarray, percent: float) -> float:
    """By linear interpolation between the sorted values."""
    return float(np.interp(percent / 100 * (len(values) - 1), np.arange(len(values)), np.sort(values)))


def expected(truth, prediction, spacing, value: int, tolerance_mm: float = 2.0) -> dict:
    """All measures of one class: by counting voxels, by comparing every surface voxel with every other, and the surface
    Dice, which weighs by areas between voxels, by the package of those who defined it."""
    t, p = truth == value, prediction == value
    both, either, voxel_ml = (t & p).sum(), (t | p).sum(), spacing[0] * spacing[1] * spacing[2] / 1000
    counts = dict(zip(COUNTS, (both, (~t & p).sum(), (t & ~p).sum(), (~t & ~p).sum(), p.sum(), t.sum()), strict=True))
    found = {"truth_ml": t.sum() * voxel_ml, "predicted_ml": p.sum() * voxel_ml}
    found["difference_ml"] = found["predicted_ml"] - found["truth_ml"]
    status = {(True, True): "scored", (True, False): "missed", (False, True): "false alarm", (False, False): "absent"}
    found |= dict.fromkeys((*OVERLAP, *SURFACE), np.nan) | counts | {"status": status[t.any(), p.any()]}
    if t.any():
        found |= {"Dice": both / ((t.sum() + p.sum()) / 2), "IoU": both / either, "sensitivity": t[p].sum() / t.sum()}
    if t.any() and p.any():
        pairs = cdist(surface_points(p, spacing), surface_points(t, spacing))
        to_truth, to_prediction = pairs.min(axis=1), pairs.min(axis=0)
        found |= {
            "precision": t[p].mean(),
            "hd95_mm": max(percentile(to_truth, 95), percentile(to_prediction, 95)),
            "mean_surface_distance_mm": (to_truth.sum() + to_prediction.sum()) / sum(pairs.shape),
        }
    if t.any():  # without a predicted surface the authors' program ends in an error of NumPy 2
        found["surface_dice"] = surface_dice(t, p, spacing, tolerance_mm) if p.any() else 0.0
    return found


def surface_dice(truth: np.ndarray, prediction: np.ndarray, spacing, tolerance_mm: float) -> float:
    distances = deepmind.compute_surface_distances(truth, prediction, spacing)
    return deepmind.compute_surface_dice_at_tolerance(distances, tolerance_mm)


def assert_as_expected(truth, prediction, spacing, names=NAMES, tolerance_mm: float = 2.0) -> dict:
    found = measure_classes(truth, prediction, spacing, names, tolerance_mm)
    assert list(found) == list(names[1:])
    for value, name in enumerate(names[1:], start=1):
        wanted = expected(truth, prediction, spacing, value, tolerance_mm)
        assert found[name].keys() == wanted.keys() == {*MEASURES, *COUNTS, "status"}
        assert [found[name][key] for key in ("status", *COUNTS)] == [wanted[key] for key in ("status", *COUNTS)]
        for key in MEASURES:
            assert found[name][key] == pytest.approx(wanted[key], rel=1e-6, abs=1e-9, nan_ok=True), (name, key)
    return found


def box(*ranges, shape=(16, 14, 12)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(*r) for r in ranges)] = 1
    return labels


def blobs(seed: int, shape, classes: int, smooth: float = 1.2) -> np.ndarray:
    """A label map of ragged pieces of every class."""
    rng = np.random.default_rng(seed)
    return np.argmax([gaussian_filter(rng.normal(size=shape), smooth) for _ in range(classes)], axis=0).astype(np.uint8)


def disturbed(labels: np.ndarray, seed: int) -> np.ndarray:
    """Moved by a voxel along two axes, with a tenth of the voxels of another class."""
    rng = np.random.default_rng(seed)
    moved = np.roll(labels, (1, -1), (0, 2))
    return np.where(rng.random(labels.shape) < 0.1, blobs(seed + 99, labels.shape, int(labels.max()) + 1), moved)


BLOBS = blobs(0, (13, 15, 11), 4), disturbed(blobs(0, (13, 15, 11), 4), 0)
BLOB_NAMES = ["background", "body", "bones", "rectum"]


@pytest.mark.parametrize(
    "axis, shift, sum_mm",
    [  # of 96 surface voxels each: sum of the distances
        (0, 1, 20 * 1.5 + 2 * (0.8 + 1.5 + 0.8)),
        (1, 1, (24 + 4 * 2) * 0.8),
        (1, 2, (16 * 0.8 + 24 * 1.6) + 2 * (1.5 + 1.6 + 1.6 + 1.5)),
        (2, 1, 30 * 3.0 + 2 * (0.8 + 1.5 + 0.8) + 2 * (0.8 + 1.6 + 0.8)),
    ],
)
def test_a_box_that_is_shifted(axis, shift, sum_mm):
    """6 x 5 x 4 voxels of 1.5 x 0.8 x 3 mm.

    The leading face, more than 5 % of the surface, lies `shift` voxels outside, the rings between it and the truth
    less; behind, the inner voxels of the face lie inside and as near to a side as to the truth's own face.
    """
    truth = box((4, 10), (4, 9), (4, 8))
    found = assert_as_expected(truth, np.roll(truth, shift, axis), SPACING)["bladder"]
    length = (6, 5, 4)[axis]
    assert found["Dice"] == found["sensitivity"] == found["precision"] == pytest.approx((length - shift) / length)
    assert found["IoU"] == pytest.approx((length - shift) / (length + shift))
    assert found["hd95_mm"] == pytest.approx(shift * SPACING[axis])
    assert found["mean_surface_distance_mm"] == pytest.approx(sum_mm / 96)
    assert [found[key] for key in VOLUME] == pytest.approx([0.432, 0.432, 0.0])
    assert found["TP"] == 120 * (length - shift) // length and found["FP"] == found["FN"] == 120 - found["TP"]


@pytest.mark.parametrize(
    "truth, prediction, status, known",
    [
        (box((2, 5)), box((0, 0)), "missed", dict.fromkeys(ZERO_IF_MISSED, 0) | {"truth_ml": 3 * 14 * 12 * 0.0036}),
        (box((0, 0)), box((2, 5)), "false alarm", {"predicted_ml": 3 * 14 * 12 * 0.0036}),
        (box((0, 0)), box((0, 0)), "absent", {}),
    ],
)
def test_nothing_to_compare(truth, prediction, status, known):
    found = assert_as_expected(truth, prediction, SPACING)["bladder"]
    known = {"truth_ml": 0.0, "predicted_ml": 0.0} | known
    known["difference_ml"] = known["predicted_ml"] - known["truth_ml"]
    assert found["status"] == status
    assert {key: found[key] for key in MEASURES if not np.isnan(found[key])} == pytest.approx(known)


@pytest.mark.parametrize("step", [(3, 0, 0), (0, -5, 0), (0, 0, 2), (1, -2, 3)])
def test_one_voxel_against_one_voxel(step):
    truth, prediction = np.zeros((2, 12, 12, 12), np.uint8)
    truth[6, 6, 6] = prediction[tuple(6 + n for n in step)] = 1
    found = assert_as_expected(truth, prediction, SPACING)["bladder"]
    distance = sum((n * s) ** 2 for n, s in zip(step, SPACING, strict=True)) ** 0.5
    assert found["hd95_mm"] == found["mean_surface_distance_mm"] == pytest.approx(distance)
    assert [found[key] for key in (*OVERLAP, "surface_dice")] == [0.0] * 5


def test_identical_maps():
    for found in assert_as_expected(BLOBS[0], BLOBS[0].copy(), SPACING, BLOB_NAMES, tolerance_mm=0.0).values():
        assert [found[key] for key in (*OVERLAP, "surface_dice")] == [1.0] * 5
        assert [found[key] for key in ("hd95_mm", "mean_surface_distance_mm", "difference_ml")] == [0.0] * 3


@pytest.mark.parametrize(
    "truth, prediction",
    [
        (box((0, 4), (0, 5), (0, 3)), box((0, 5), (1, 6), (0, 4))),  # in a corner of the volume
        (box((13, 16), (3, 9), (4, 12)), box((12, 16), (3, 9), (6, 12))),  # at its far end
        (box((0, 16)), box((0, 16))),  # all of it
        (box((0, 16)), box((0, 16), (0, 13), (2, 12))),
        (box((2, 12), (2, 12), (2, 10)), box((5, 8), (5, 9), (5, 7))),  # inside one another
        (box((2, 8), (2, 12), (2, 10)), box((8, 14), (2, 12), (2, 10))),  # side by side
        (
            box((2, 5), (2, 5), (2, 5)),
            box((2, 5), (2, 5), (2, 5)) + box((12, 14), (9, 12), (8, 10)),
        ),  # a piece too many
        (box((2, 12), (2, 12), (5, 6)), box((2, 12), (2, 12), (6, 7))),  # sheets of one voxel
    ],
)
@pytest.mark.parametrize("spacing", [SPACING, (1.0, 1.0, 1.0)])
def test_pair_by_pair(truth, prediction, spacing):
    assert_as_expected(truth, prediction, spacing)
    assert_as_expected(prediction, truth, spacing)


def test_a_hollow_has_a_surface_too():
    """A shell against the full box: the truth's inner wall lies up to two voxels inside the prediction's surface."""
    full = box((3, 13), (2, 12), (2, 10))
    shell = full - box((5, 11), (4, 10), (4, 8))
    found = assert_as_expected(shell, full, (1.0, 1.0, 1.0), tolerance_mm=0.0)["bladder"]
    outer, wall = (
        10 * 10 * 8 - 8 * 8 * 6,
        2 * (6 * 6 + 6 * 4 + 6 * 4),
    )  # voxels; the wall lies beside the hollow's faces
    assert found["mean_surface_distance_mm"] == pytest.approx(wall / (2 * outer + wall))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("seed", range(6))
def test_ragged_maps_of_several_classes(seed):
    rng = np.random.default_rng(seed)
    shape, spacing = rng.integers(9, 17, 3), rng.uniform(0.5, 4, 3)
    truth = blobs(seed, shape, 5, smooth=rng.uniform(0.5, 2))
    prediction = disturbed(truth, seed)
    truth[truth == 3], prediction[prediction == 4] = 0, 0
    found = assert_as_expected(truth, prediction, spacing, ["background", *"abcd"], tolerance_mm=rng.uniform(1, 4))
    assert [found[name]["status"] for name in "abcd"] == ["scored", "scored", "false alarm", "missed"]


@pytest.mark.parametrize("classes", [4, 60, 256])
def test_counts_as_scikit_learn_has_them(classes):
    rng = np.random.default_rng(classes)
    truth, prediction = rng.integers(0, classes, (2, 18, 20, 16), dtype=np.uint8)
    prediction[:9] = truth[:9]
    found = measure_classes(truth, prediction, SPACING, [str(value) for value in range(classes)])
    table = confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(classes))
    for value in range(1, classes):
        rest = np.delete(np.delete(table, value, 0), value, 1).sum()
        row, column = np.delete(table[value], value).sum(), np.delete(table[:, value], value).sum()
        counts = [table[value, value], column, row, rest, table[:, value].sum(), table[value].sum()]
        assert [found[str(value)][key] for key in COUNTS] == counts


@pytest.mark.parametrize("spacing", [SPACING, (2.0, 2.0, 2.0), (0.7, 4.0, 1.1)])
def test_surface_measures_as_monai_has_them(spacing):
    truth, prediction = BLOBS
    hot = [one_hot(torch.from_numpy(labels.astype(np.int64))[None, None], 4) for labels in (prediction, truth)]
    monai = {
        "hd95_mm": compute_hausdorff_distance(*hot, percentile=95, spacing=spacing),
        "mean_surface_distance_mm": compute_average_surface_distance(*hot, symmetric=True, spacing=spacing),
        "surface_dice": compute_surface_dice(*hot, [2.0] * 3, spacing=spacing, use_subvoxels=True),
    }
    found = measure_classes(truth, prediction, spacing, BLOB_NAMES, tolerance_mm=2.0)
    for key, values in monai.items():
        assert [found[name][key] for name in BLOB_NAMES[1:]] == pytest.approx(values[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_a_single_slice_is_measured_as_monai_measures_pictures(flat):
    """Two discs, five pixels apart; the third axis of the file has one voxel, of any size."""
    rows, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    discs = [((rows - 32) ** 2 + (columns - 30 - shift) ** 2 < 400).astype(np.uint8) for shift in (0, 5)]
    hot = [one_hot(torch.from_numpy(disc.astype(np.int64))[None, None], 2) for disc in discs[::-1]]
    monai = {
        "hd95_mm": compute_hausdorff_distance(*hot, percentile=95, spacing=(1.5, 0.8)),
        "mean_surface_distance_mm": compute_average_surface_distance(*hot, symmetric=True, spacing=(1.5, 0.8)),
        "surface_dice": compute_surface_dice(*hot, [2.0], spacing=(1.5, 0.8), use_subvoxels=True),
    }
    spacing = list(np.insert([1.5, 0.8], flat, 7.0))
    found = measure_classes(*(np.expand_dims(disc, flat) for disc in discs), spacing, NAMES)["bladder"]
    assert {key: found[key] for key in SURFACE} == pytest.approx({key: monai[key].item() for key in SURFACE}, abs=1e-5)
    assert found["truth_ml"] == pytest.approx(discs[0].sum() * 1.5 * 0.8 * 7 / 1000)
    nothing = measure_classes(*(np.zeros((8, 8, 1), np.uint8) for _ in range(2)), spacing, NAMES)
    assert nothing["bladder"]["status"] == "absent"


def of(truth, prediction, spacing=SPACING, **options) -> dict:
    return measure_classes(truth, prediction, spacing, BLOB_NAMES, **options)


def test_truth_and_prediction_change_places():
    there, back = of(*BLOBS), of(*BLOBS[::-1])
    turned = {"sensitivity": "precision", "precision": "sensitivity", "truth_ml": "predicted_ml"}
    turned |= {"predicted_ml": "truth_ml", "FP": "FN", "FN": "FP", "n_pred": "n_ref", "n_ref": "n_pred"}
    for name in BLOB_NAMES[1:]:
        assert there[name]["sensitivity"] != there[name]["precision"]
        for key in {*MEASURES, *COUNTS} - {"difference_ml"}:
            assert there[name][key] == pytest.approx(back[name][turned.get(key, key)], rel=1e-12)
        assert there[name]["difference_ml"] == pytest.approx(-back[name]["difference_ml"], rel=1e-12) != 0


def test_larger_voxels():
    small, large = of(*BLOBS), of(*BLOBS, [3 * s for s in SPACING], tolerance_mm=6.0)
    factors = dict.fromkeys(VOLUME, 27) | {"hd95_mm": 3, "mean_surface_distance_mm": 3}
    for name in BLOB_NAMES[1:]:
        assert 0 < small[name]["surface_dice"] < 1 and small[name]["hd95_mm"] > 0
        for key in MEASURES:
            assert large[name][key] == pytest.approx(small[name][key] * factors.get(key, 1), rel=1e-6), key


@pytest.mark.parametrize(
    "change",
    [
        *(lambda labels, axis=axis: np.flip(labels, axis) for axis in range(3)),
        lambda labels: np.pad(labels, ((0, 3), (2, 0), (1, 1))),
        np.asfortranarray,
        lambda labels: labels.astype(np.int64),
    ],
)
def test_what_changes_nothing(change):
    """Both maps flipped, in a larger volume, in another order of memory, of another type."""
    first, second = of(*BLOBS), of(*(change(labels) for labels in BLOBS))
    for name in BLOB_NAMES[1:]:
        for key in {*MEASURES, *COUNTS} - {"TN"}:
            assert first[name][key] == pytest.approx(second[name][key], rel=1e-6)


def test_turned_axes_need_turned_spacing():
    turned = [labels.transpose(2, 0, 1) for labels in BLOBS]
    first, right, wrong = of(*BLOBS), of(*turned, (3.0, 1.5, 0.8)), of(*turned, SPACING)
    for name in BLOB_NAMES[1:]:
        assert [first[name][key] for key in SURFACE] == pytest.approx([right[name][key] for key in SURFACE], rel=1e-6)
        assert first[name]["mean_surface_distance_mm"] != pytest.approx(
            wrong[name]["mean_surface_distance_mm"], rel=0.1
        )


def test_tolerance():
    """More of the surface is within a larger tolerance, and all of it within a huge one."""
    shares = [of(*BLOBS, tolerance_mm=t)["rectum"]["surface_dice"] for t in (0.0, 0.8, 1.5, 2.0, 1e9)]
    assert 0 < shares[0] < shares[1] < shares[2] < shares[3] < shares[4] == 1.0


def test_surface_dice_is_a_share_of_the_area():
    """A cube of 20 voxels, moved by 4, and a tolerance of 3: what is too far can be counted on squared paper.

    The surface, 6 x 400 voxel faces, is read at the corners of voxels. Of either one too far are the leading face; of
    the ring behind it the half voxels at its edge; and of the face inside the other cube 13 of 21 corners each way.
    """
    truth = box((10, 30), (8, 28), (6, 26), shape=(44, 36, 32))
    found = measure_classes(truth, np.roll(truth, 4, 0), (1.0, 1.0, 1.0), NAMES, tolerance_mm=3.0)["bladder"]
    far = 400 + 4 * 20 / 2 + 13 * 13
    assert found["surface_dice"] == pytest.approx(1 - far / 2400, abs=0.005)


@pytest.mark.parametrize("size", [0.1, 0.3, 0.7, 0.8, 1.56, 1.68])
def test_a_distance_of_just_the_tolerance_is_within_it(size):
    """Two single voxels: of their corners, half are as far apart as the voxels, half one voxel nearer."""
    for steps in range(1, 8):
        truth, prediction = np.zeros((2, 9, 1, 1), np.uint8)
        truth[0] = prediction[steps] = 1
        for tolerance, share in ((size * steps, 1.0), (size * steps - 1e-3, 0.5), (size * (steps - 1) - 1e-3, 0.0)):
            if tolerance >= 0:
                found = measure_classes(truth, prediction, (size, 1.0, 1.0), NAMES, tolerance_mm=tolerance)
                assert found["bladder"]["surface_dice"] == pytest.approx(share, abs=1e-6), (steps, tolerance)


def test_volume_of_a_voxel_with_slanted_edges():
    straight, slanted = of(*BLOBS), of(*BLOBS, voxel_ml=0.01)
    for name in BLOB_NAMES[1:]:
        assert slanted[name]["truth_ml"] == pytest.approx(slanted[name]["n_ref"] / 100)
        assert slanted[name]["predicted_ml"] == pytest.approx(slanted[name]["n_pred"] / 100)
        assert [slanted[name][key] for key in SURFACE] == [straight[name][key] for key in SURFACE]


def test_maps_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(16, 14, 12\).*\(14, 16, 12\)"):
        measure_classes(box((2, 5)), box((2, 5), shape=(14, 16, 12)), SPACING, NAMES)


# A second implementation: DeepMind's surface-distance package. The surface Dice is the same. The distances are not
# quite: its surfaces run between the voxels, through the corners at which classes meet, and weigh by area. Where a
# surface is oblique or rough, such corners lie on both sides of it, so that distances come out a fraction of a voxel
# shorter; they must agree but for that. Measured, at most: near 0.65 mm and 1.28 mm; far 2.37 mm and 2.35 mm; any wrong
# spacing below, of the 95 % distance: 3.3 mm and more.


def distort(labels: np.ndarray, spacing: np.ndarray, shift: tuple, wobble: float) -> np.ndarray:
    """Moved by `shift` mm and, differently from place to place, by about `wobble` mm along each axis."""
    rng = np.random.default_rng(0)
    points = np.indices(labels.shape).astype(float)
    for axis in range(3):
        waves = gaussian_filter(rng.normal(size=labels.shape), 20 / spacing)
        points[axis] += (shift[axis] + wobble * waves / waves.std()) / spacing[axis]
    return map_coordinates(labels, points, order=0, mode="nearest")


def by_deepmind(truth: np.ndarray, prediction: np.ndarray, spacing, tolerance_mm: float) -> np.ndarray:
    """The three surface measures of every class."""
    rows = []
    for value in range(1, len(CLASSES)):
        distances = deepmind.compute_surface_distances(truth == value, prediction == value, spacing)
        to_prediction, to_truth = deepmind.compute_average_surface_distance(distances)
        hd95 = deepmind.compute_robust_hausdorff(distances, 95)
        dice = deepmind.compute_surface_dice_at_tolerance(distances, tolerance_mm)
        rows.append([hd95, (to_prediction + to_truth) / 2, dice])
    return np.array(rows)


def largest_differences(truth, prediction, spacing, tolerance_mm: float, known: np.ndarray) -> np.ndarray:
    found = measure_classes(truth, prediction, spacing, CLASSES, tolerance_mm)
    return np.abs(np.array([[found[name][key] for key in SURFACE] for name in CLASSES[1:]]) - known).max(axis=0)


@pytest.fixture(scope="module")
def phantom():
    """A phantom's labels and its voxel size, 3.4 x 5.4 x 8.3 mm."""
    truth = make_scan(4, 0, (128, 80, 24))[1]
    return truth, voxel_mm(truth.shape)


@pytest.mark.parametrize(
    "shift, wobble, tolerance_mm, share",
    [  # of a voxel's diagonal, 10.5 mm, that the distances may differ by
        pytest.param((4, 3, -5), 3, 10, 1 / 8, id="near"),
        pytest.param((7, 0, -17), 2, 20, 1 / 4, id="far"),
    ],
)
def test_a_second_implementation_agrees(phantom, shift, wobble, tolerance_mm, share):
    truth, spacing = phantom
    prediction = distort(truth, spacing, shift, wobble)
    known = by_deepmind(truth, prediction, spacing, tolerance_mm)
    assert (known[:, 0] > 5).all() and (known[:, 2] > 0.9).all()
    bounds = np.array([*[share * np.linalg.norm(spacing)] * 2, 1e-6])
    assert (largest_differences(truth, prediction, spacing, tolerance_mm, known) < bounds).all()


def test_a_second_implementation_would_notice(phantom):
    """Axes in any wrong order, centimetres, or voxels a tenth too large break the wider of the two bounds."""
    truth, spacing = phantom
    prediction = distort(truth, spacing, (7, 0, -17), 2)
    known = by_deepmind(truth, prediction, spacing, 20)
    wrong = [spacing[list(order)] for order in permutations(range(3)) if order != (0, 1, 2)]
    for mistaken in [*wrong, spacing / 10, spacing * 1.1]:
        off = largest_differences(truth, prediction, mistaken, 20, known)
        assert off[0] > 1.2 * np.linalg.norm(spacing) / 4


def test_a_label_beyond_the_last_class_is_refused():
    for maps in ((BLOBS[0], BLOBS[1]), (BLOBS[1], BLOBS[0])):
        with pytest.raises(ValueError, match="above 2, the last class"):
            measure_classes(np.minimum(maps[0], 2), maps[1], SPACING, BLOB_NAMES[:3])


def test_nothing_is_said_of_masks_that_are_empty(recwarn):
    """Warnings are not switched off for the rest of the program either."""
    filters = list(warnings.filters)
    of(*BLOBS)
    of(BLOBS[0], np.zeros_like(BLOBS[0]))
    assert not recwarn.list and warnings.filters == filters


def test_a_measure_is_added_in_one_place(monkeypatch, tmp_path):
    """One line in MEASURES puts the measure into every file of the report and into the comparison."""

    def volume_ratio(pair: ClassPair) -> float:
        return pair.counts["n_pred"] / pair.counts["n_ref"]

    added = Measure("volume_ratio", "Predicted over true volume", volume_ratio, decimals=4, better="neither")
    error = Measure(
        "missing_share", "Share not found", lambda pair: pair.counts["FN"] / pair.counts["n_ref"], 4, "less"
    )
    monkeypatch.setitem(MEASURES, added.name, added)
    monkeypatch.setitem(MEASURES, error.name, error)
    for run, prediction in (("a", BLOBS[1]), ("b", BLOBS[0])):
        cases = [measure_case(f"Case_00{n}", prediction, BLOBS[0], np.eye(4), BLOB_NAMES) for n in (1, 2)]
        write(build(cases, BLOB_NAMES, []), tmp_path / run)
    ratio = (BLOBS[1] == 1).sum() / (BLOBS[0] == 1).sum()
    assert measured(tmp_path / "a" / "metrics.csv", added.name)["Case_001"]["body"] == pytest.approx(ratio, 1e-5)
    written = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert written["mean"]["1"][added.name] == pytest.approx(ratio)
    for name in ("report.html", "report.md"):
        text = (tmp_path / "a" / name).read_text()
        assert added.title in text and f"{ratio:.4f}" in text
    found = compare([str(tmp_path / "a"), str(tmp_path / "b")])["measures"]
    assert added.name not in found  # a size is not better or worse
    assert found[error.name]["body"]["differences"][0]["better"] == 2  # less of it is better, and b has none


@pytest.mark.parametrize("needs, known", [("both", {"scored"}), ("truth", {"scored", "missed"}), ("nothing", None)])
def test_a_measure_is_defined_where_the_masks_it_needs_are_there(needs, known):
    measure = Measure("one", "One", lambda pair: 1.0, needs=needs)
    for true, predicted in ((1, 1), (1, 0), (0, 1), (0, 0)):
        mask = np.ones((1, 1, 1), bool)
        counts = dict.fromkeys(COUNTS, 0) | {"n_ref": true, "n_pred": predicted}
        pair = ClassPair(mask, mask, (1.0, 1.0, 1.0), 0.001, 2.0, counts)
        assert np.isnan(measure.of(pair)) == (known is not None and pair.status not in known)
