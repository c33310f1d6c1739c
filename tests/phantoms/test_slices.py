"""The phantoms in 2D layouts: same seed, same bytes; files and formats of each layout; anatomy of hearts and brains."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage
from PIL import Image
from scipy import ndimage

from scripts.phantoms import brain, heart
from scripts.phantoms.brain import make_brain
from scripts.phantoms.generate import generate, make_scan, summary_line
from scripts.phantoms.heart import LEFT, MYOCARDIUM, RIGHT, make_heart
from scripts.phantoms.layouts import LAYOUTS
from scripts.phantoms.shapes import Waves, voxel_mm
from scripts.phantoms.slice_canvas import Sheet, pixel_grid, pixels_near, ripple, to_grey_values

SMALL = {
    "keras_slices": {"patients": 3, "scans": 2, "size": (32, 24, 16), "slices": 4},
    "cardiac_png": {"patients": 5, "size": (48, 48)},
    "lgg_tiff": {"patients": 2, "size": (48, 48), "slices": 6},
}
NUMBERS = {"keras_slices": r"case_(\d+)_", "cardiac_png": r"cmr(\d+)\.", "lgg_tiff": r"TCGA_PH_(\d+)_"}


@pytest.fixture(scope="module", params=SMALL)
def made(request, tmp_path_factory):
    """The name of a layout, a folder with it, and the pairs of paths."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, generate(folder, layout=request.param, seed=3, **SMALL[request.param])


@pytest.fixture(scope="module")
def hearts():
    """Both phases of twenty hearts, (patient, phase) as key: image and label."""
    return {(patient, phase): make_heart(patient, phase, (48, 48)) for patient in range(20) for phase in range(2)}


@pytest.fixture(scope="module")
def brains():
    return [make_brain(patient, 24, (48, 48)) for patient in range(10)]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def array(path):
    return np.asarray(nib.load(path).dataobj) if path.suffix == ".gz" else np.asarray(Image.open(path))


def test_same_seed_writes_the_same_bytes(made, tmp_path):
    layout, folder, _ = made
    generate(tmp_path, layout=layout, seed=3, **SMALL[layout])
    assert contents(tmp_path) == contents(folder)


def test_another_seed_makes_other_images(made, tmp_path):
    layout, _, pairs = made
    others = generate(tmp_path, layout=layout, seed=4, **SMALL[layout])
    assert [path.relative_to(tmp_path) for path, _ in others] == [path.relative_to(made[1]) for path, _ in pairs]
    assert all(np.any(array(old) != array(new)) for (old, _), (new, _) in zip(pairs, others, strict=True))


def test_a_patient_does_not_depend_on_the_others(made, tmp_path):
    layout, _, pairs = made
    others = generate(tmp_path, layout=layout, seed=3, **SMALL[layout] | {"first_patient": 5})
    before, now = ({path.name: path.read_bytes() for path, _ in some} for some in (pairs, others))
    shared = before.keys() & now.keys()
    assert len(shared) >= len(pairs) / 2 and all(before[name] == now[name] for name in shared)


def test_image_and_label_are_of_one_size(made):
    layout, _, pairs = made
    expected = {"keras_slices": (24, 16)}.get(layout, (48, 48))
    for image, label in pairs:
        assert array(image).shape[:2] == expected
        assert label is None or array(label).shape == expected


def test_a_patient_is_on_one_side(made):
    layout, folder, pairs = made
    sides = {}
    for image, _ in pairs:
        number = int(re.search(NUMBERS[layout], image.name)[1])
        patient = (number - 1) // 2 if layout == "cardiac_png" else number
        sides.setdefault(patient, set()).add(image.relative_to(folder).parts[0])
    assert len(sides) == SMALL[layout]["patients"] and all(len(side) == 1 for side in sides.values())
    assert len(set.union(*sides.values())) == (1 if layout == "lgg_tiff" else 3)


def test_the_folder_says_that_it_is_synthetic(made):
    layout, folder, _ = made
    recorded = json.loads((folder / "phantom.json").read_text())
    assert recorded["description"].startswith("synthetic") and recorded["description"].endswith("not patients")
    assert recorded["layout"] == layout and recorded["size"] == list(SMALL[layout]["size"])


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (
            "keras_slices",
            {
                f"keras_slices{kind}_{side}/{word}_{patient:03d}_week_{week}_slice_{slice}.nii.gz"
                for kind, word in (("", "case"), ("_seg", "seg"))
                for side, patient in (("train", 4), ("validate", 5), ("test", 6))
                for week in range(2)
                for slice in range(4)
            },
        ),
        (
            "cardiac_png",
            {f"train/image/cmr{n}.png" for n in range(9, 15)}
            | {f"train/mask/cmr{n}_mask.png" for n in range(9, 15)}
            | {f"val/image/cmr{n}.png" for n in (15, 16)}
            | {f"val/mask/cmr{n}_mask.png" for n in (15, 16)}
            | {f"test/image/cmr{n}.png" for n in (17, 18)},
        ),
        (
            "lgg_tiff",
            {
                f"kaggle_3m/TCGA_PH_{patient}_20000101/TCGA_PH_{patient}_20000101_{k}{kind}.tif"
                for patient in ("0004", "0005")
                for k in range(1, 7)
                for kind in ("", "_mask")
            },
        ),
    ],
)
def test_files_are_where_the_layout_says(tmp_path, layout, names):
    pairs = generate(tmp_path, layout=layout, **SMALL[layout])
    assert set(contents(tmp_path)) == names | {"phantom.json"}
    assert {path.relative_to(tmp_path).as_posix() for pair in pairs for path in pair if path} == names
    labels = len([name for name in names if "_seg" in name or "mask" in name])
    assert summary_line(pairs).startswith(
        f"wrote {len(names) - labels} synthetic images and {labels} labels to {tmp_path}"
    )


@pytest.mark.parametrize(("patients", "counts"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (8, (4, 2, 2)), (40, (24, 8, 8))])
def test_patients_are_divided_about_six_to_two_to_two(patients, counts):
    kind = LAYOUTS["keras_slices"]
    sides = [kind.side(index, patients) for index in range(patients)]
    assert tuple(sides.count(side) for side in kind.sides) == counts


def test_slices_are_the_middle_ones_of_the_volume(tmp_path):
    size = (32, 24, 16)
    pairs = generate(tmp_path, layout="keras_slices", patients=3, scans=1, size=size, slices=4)
    image, label = make_scan(4, 0, size)
    for k, (image_path, label_path) in enumerate(pairs[:4]):
        for path, volume in ((image_path, image), (label_path, label)):
            header = nib.load(path).header
            assert np.array_equal(array(path), volume[14 + k]) and header.get_data_dtype() == volume.dtype
            assert np.array_equal(nib.load(path).affine, np.eye(4))
            assert np.allclose(header.get_zooms(), voxel_mm(size)[1:]) and b"not a patient" in header["descrip"].item()
        assert LoadImage(image_only=True)(image_path).shape == size[1:]
    assert len(generate(tmp_path / "all", layout="keras_slices", patients=3, scans=1, size=(16, 16, 16))) == 48


def test_formats_are_those_of_the_data_they_stand_for(tmp_path):
    for layout, mode in (("cardiac_png", "L"), ("lgg_tiff", "RGB")):
        for image, label in generate(tmp_path / layout, layout=layout, **SMALL[layout]):
            with Image.open(image) as opened:
                assert opened.mode == mode and opened.info.get("compression", "raw") == "raw"
            if label:
                with Image.open(label) as opened:
                    assert opened.mode == "L"
                assert set(np.unique(array(label))) <= ({0, 1, 2, 3} if layout == "cardiac_png" else {0, 255})


def test_every_heart_has_a_ring_round_its_left_ventricle(hearts):
    for key, (image, label) in hearts.items():
        assert set(np.unique(label)) == {0, RIGHT, MYOCARDIUM, LEFT}, key
        grown = ndimage.binary_dilation(label == LEFT) & (label != LEFT)
        assert set(np.unique(label[grown])) == {MYOCARDIUM}, key
        assert image.dtype == np.uint8 and image.max() > 180 and image.min() < 40
        assert image[label == LEFT].mean() > 1.4 * image[label == MYOCARDIUM].mean(), key


def test_the_right_ventricle_is_on_the_patients_right(hearts):
    columns = np.array([[np.argwhere(label == c)[:, 1].mean() for c in (RIGHT, LEFT)] for _, label in hearts.values()])
    assert np.all(columns[:, 0] < columns[:, 1] + 2) and np.mean(columns[:, 1] - columns[:, 0]) > 8


def test_odd_phases_are_contracted(hearts):
    for patient in range(20):
        filled, emptied = (np.bincount(hearts[patient, phase][1].ravel(), minlength=4) for phase in range(2))
        assert emptied[LEFT] < 0.8 * filled[LEFT] and emptied[RIGHT] < filled[RIGHT], patient


def test_tumours_take_a_third_to_a_half_of_the_slices(brains):
    shares = [label.any((1, 2)).mean() for _, label in brains]
    assert 1 / 3 <= np.mean(shares) <= 1 / 2 and min(shares) >= 0.25 and max(shares) <= 0.6
    for image, label in brains:
        assert image.dtype == np.uint8 and image.shape == (24, 48, 48, 3) and set(np.unique(label)) == {0, 1}
        _, flair, _ = (image[..., channel].astype(float) for channel in range(3))
        inside = (ndimage.binary_dilation(label, iterations=4) & (label == 0)) & (flair > 30)
        assert flair[label == 1].mean() > 1.15 * flair[inside].mean()


def test_grey_values_alone_do_not_find_the_tumour(brains):
    """Even a threshold that is the best for each scan, chosen on its own truth."""
    best = []
    for image, label in brains:
        counts = np.stack([np.bincount(image[..., 1][label == c], minlength=256) for c in (0, 1)])
        above = counts[:, ::-1].cumsum(1)
        best.append(np.max(2 * above[1] / (above.sum(0) + counts[1].sum())))
    assert np.mean(best) < 0.75


def test_grey_values_alone_do_not_find_the_ventricles(hearts):
    """Every grey value given its best class over all hearts, rare classes weighted up."""
    image, label = (np.stack(arrays) for arrays in zip(*hearts.values(), strict=True))
    shares = np.stack([np.bincount(image[label == c], minlength=256) / np.sum(label == c) for c in range(4)])
    for weight in (1, 2, 4, 8):
        found = (shares * [[weight], [1], [1], [1]]).argmax(0)[image]
        dice = [2 * np.sum((found == c) & (label == c)) / (np.sum(found == c) + np.sum(label == c)) for c in (1, 2, 3)]
        assert np.mean(dice) < 0.6


@pytest.mark.parametrize("make", [lambda size: make_heart(7, 0, size), lambda size: make_brain(7, 8, size)])
def test_anatomy_does_not_depend_on_the_grid(make):
    (_, fine), (_, coarse) = make((96, 96)), make((48, 48))
    for c in range(1, fine.max() + 1):
        shared = (fine == c).reshape(-1, 48, 2, 48, 2).mean((2, 4)).reshape(coarse.shape) > 0.5
        assert 2 * np.sum(shared & (coarse == c)) / (np.sum(shared) + np.sum(coarse == c)) > 0.85


def test_tissues_are_named_alike():
    assert heart.CLASSES[MYOCARDIUM] == "myocardium" and brain.CLASSES[brain.TUMOUR] == "tumour"
    assert all(len(values) == 3 for values in brain.SIGNALS.values())


def test_a_sheet_blends_over_a_pixel_and_labels_what_is_inside():
    sheet = Sheet((1, 5), 2, 1.0, {"bright": (1.0, 2.0)})
    sheet.paint(np.array([[-2, -0.25, 0.25, 2, 3]], np.float32), "bright", 1)
    assert np.allclose(sheet.signal[:, 0], [[1, 0.75, 0.25, 0, 0], [2, 1.5, 0.5, 0, 0]])
    assert sheet.label.tolist() == [[1, 1, 0, 0, 0]]


def test_a_box_holds_what_is_near_and_may_be_empty():
    axes = pixel_grid((4, 8, 8), (40, 80, 80))
    assert pixels_near(axes, (5, -15, 15), 6) == (slice(3, 4), slice(2, 3), slice(4, 5))
    assert np.zeros((4, 8, 8))[pixels_near(axes, (500, 0, 0), 6)].size == 0


def test_exposure_without_noise_and_coil_only_scales_and_cuts():
    points = (*pixel_grid((8, 8), (8, 8)), np.float32(0))
    signal = np.linspace(0, 4, 64, dtype=np.float32).reshape(8, 8)
    image = to_grey_values(signal, np.random.default_rng(0), points, 100, 0, 0, 0, (200, 400))
    assert np.abs(image - np.minimum(100 * signal, 255)).max() <= 0.51


def test_ripples_have_mean_0_and_deviation_1():
    values = ripple(
        Waves.draw(np.random.default_rng(0), 5, 20, 32), (*pixel_grid((200, 200), (400, 400)), np.float32(0))
    )
    assert abs(values.mean()) < 0.05 and values.std() == pytest.approx(1, abs=0.1)
