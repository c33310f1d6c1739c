"""Pictures: the patient's sides whichever way the volume is stored, informative slices, colours, TensorBoard."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from conftest import blank_overlay
from ignite.engine import Engine, Events
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from monai.data import MetaTensor
from nibabel.orientations import axcodes2ornt, ornt_transform
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.core.palette import COLOURS, colour
from scripts.report.overlay import aspect, blend, cut, most_informative_slices, overlay, upright
from scripts.report.tensorboard import TensorBoardPictures

SHAPE, SPACING = (6, 8, 10), (2.0, 1.5, 3.0)
NAMES = ["background", "body", "prostate"]
ORIENTATIONS = ["RAS", "LPS", "SPL", "AIR"]


def volume() -> np.ndarray:
    """In RAS order, with a different mark at the patient's right, front and head."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 4, 5] = 4  # the middle, where all three planes cut
    labels[5, 4, 5], labels[3, 7, 5], labels[3, 4, 9] = 1, 2, 3
    return labels


def stored(labels: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume as a file of that orientation holds it, with its affine."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -10, -20, -30
    turned = nib.Nifti1Image(labels, affine).as_reoriented(turn)
    assert nib.aff2axcodes(turned.affine) == tuple(codes)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_upright_undoes_any_orientation(codes):
    data, affine = stored(volume(), codes)
    back, spacing = upright(data, affine)
    assert np.array_equal(back, volume()) and np.allclose(spacing, SPACING)


def test_an_oblique_volume_is_turned_to_the_nearest_axes():
    angle = np.deg2rad(20)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    data, affine = stored(volume(), "LPS")
    back, spacing = upright(data, tilt @ affine)
    assert np.array_equal(back, volume()) and np.allclose(spacing, SPACING)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize(
    "axis, right, front, head",
    [  # (row, column) from the top left; None: not in this plane
        (2, (3, 0), (0, 2), None),  # axial: right on the left, front up
        (1, (4, 0), None, (0, 2)),  # coronal: right on the left, head up
        (0, None, (4, 7), (0, 4)),  # sagittal: front on the right, head up
    ],
)
def test_sides_of_a_cut(codes, axis, right, front, head):
    data, affine = stored(volume(), codes)
    plane = cut(upright(data, affine)[0], axis, (3, 4, 5)[axis])
    found = {
        value: tuple(int(n) for n in np.argwhere(plane == value)[0]) for value in np.unique(plane) if 0 < value < 4
    }
    assert found == {n: place for n, place in zip((1, 2, 3), (right, front, head), strict=True) if place}


def test_millimetres_are_square_in_a_picture():
    assert [aspect(np.array(SPACING), axis) for axis in range(3)] == [3.0 / 1.5, 3.0 / 2.0, 1.5 / 2.0]


def test_informative_slices_show_most_of_every_class():
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[1:7, 1:8, 2:9] = 1
    labels[2, 3, 4] = 2
    labels[5:7, 6:8, 7:9] = 3
    labels[6, 6, 8] = 2  # in x and z most of classes 2 and 3 meet here
    assert most_informative_slices(labels) == [6, 6, 8]


def test_a_small_class_counts_as_much_as_a_large_one():
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[:, :, :] = 1
    labels[6, 5, 2] = 2
    assert most_informative_slices(labels) == [6, 5, 2]


def test_the_middle_where_nothing_is_labelled():
    assert most_informative_slices(np.zeros((8, 9, 10), np.uint8)) == [4, 4, 5]


def test_colours_repeat_and_leave_the_background_out():
    assert [colour(n) for n in (1, 2, len(COLOURS) + 1)] == [COLOURS[0], COLOURS[1], COLOURS[0]]
    grey, labels = np.full((6, 6, 3), 0.5), np.zeros((6, 6), np.uint8)
    labels[0, 0], labels[1, 1] = 1, 2
    shown = blend(grey.copy(), labels)
    assert np.array_equal(shown[labels == 0], grey[labels == 0])
    for value in (1, 2):
        moved, way = shown[labels == value][0] - 0.5, np.array(to_rgb(colour(value))) - 0.5
        share = moved @ way / (way @ way)
        assert 0.1 < share < 0.9 and np.allclose(moved, share * way)


def panels(figure) -> list[np.ndarray]:
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes]


def test_one_value_that_is_no_number_does_not_make_a_picture_white():
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    spoiled = image.copy()
    spoiled[3, 4, 5] = np.nan  # in all three planes
    usual, shown = (panels(overlay(one, {"truth": volume()}, np.eye(4), NAMES)) for one in (image, spoiled))
    assert all(np.isfinite(panel).all() for panel in shown)
    assert np.mean([np.abs(a - b).mean() for a, b in zip(usual, shown)]) < 0.02


@pytest.mark.parametrize("codes", ORIENTATIONS[1:])
def test_one_picture_for_any_orientation(codes, tmp_path):
    """Image, truth and prediction of a volume and of its turned copy give the same pixels, drawn at the same size."""
    rng = np.random.default_rng(0)
    image, labels = rng.normal(size=SHAPE).astype(np.float32), np.minimum(volume(), 2)
    figures = []
    for order in ("RAS", codes):
        (turned, affine), (marks, _) = stored(image, order), stored(labels, order)
        maps = {"truth": marks, "prediction": (marks > 0).astype(np.uint8)}
        figures.append(overlay(turned, maps, affine, NAMES, tmp_path / f"{order}.png", "case 4"))
    first, second = (panels(figure) for figure in figures)
    assert len(first) == len(second) == 9
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({panel.tobytes() for panel in first}) == 9
    assert (tmp_path / "RAS.png").read_bytes() == (tmp_path / f"{codes}.png").read_bytes()


def test_what_a_picture_says(tmp_path):
    data, affine = stored(volume() % 3, "LPS")
    figure = overlay(data.astype(np.float32), {"truth": data}, affine, NAMES, tmp_path / "a.png", "case 4")
    assert figure.get_suptitle() == "case 4\nresearch use only"
    titles = [f"{name}, {plane}" for plane in ("axial", "coronal", "sagittal") for name in ("image", "truth")]
    assert [axis.get_title() for axis in figure.axes] == titles
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes[::2]] == [
        ["R", "L"],
        ["R", "L"],
        ["P", "A"],
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == NAMES[1:]
    assert figure.axes[0].images[0].get_array().shape == (SHAPE[1], SHAPE[0], 3)
    assert min(imread(tmp_path / "a.png").shape[:2]) > 300


def test_names_with_dollars_are_no_formulas(tmp_path):
    overlay(volume().astype(np.float32), {"x$1_$2": volume()}, np.eye(4), NAMES, tmp_path / "a.png", "a$_$b")
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float16, bool])
def test_an_image_of_any_type_can_be_drawn(dtype):
    """MONAI reads 64 bits, which nibabel does not write."""
    overlay(np.ones((8, 8, 8), dtype), {"truth": np.zeros((8, 8, 8), np.uint8)}, np.eye(4), ["background", "body"])


@pytest.mark.parametrize("value", [0, 7])
def test_a_flat_image_can_be_drawn(value):
    figure = overlay(np.full(SHAPE, value, np.float32), {"a": volume()}, np.eye(4), NAMES)
    assert all(np.isfinite(panel).all() for panel in panels(figure))


@pytest.mark.parametrize(
    "interval, validated, epochs",
    [
        (1, [1, 2, 3, 4], [1, 2, 3, 4]),
        (2, [1, 2, 3, 4, 5], [1, 3, 5]),
        (10, [1, 2, 3], [1]),
        (5, [3, 6, 9, 12, 15], [3, 9, 15]),
        (2, [41, 42, 43], [41, 43]),
    ],
)
def test_tensorboard_gets_one_picture_a_validation(interval, validated, epochs, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.report.tensorboard.overlay", blank_overlay)
    labels = MetaTensor(volume()[None] % 3, affine=np.diag([*SPACING, 1.0]))
    engine = Engine(lambda *_: None)
    engine.state.output = [{key: labels for key in ("image", "label", "pred")}]
    pictures = TensorBoardPictures(str(tmp_path), NAMES, interval)
    pictures.attach(engine)
    for epoch, iteration in itertools.product(validated, (1, 2)):  # of two cases the first is drawn
        engine.state.epoch, engine.state.iteration = epoch, iteration  # of the trainer, and of this validation
        engine.fire_event(Events.ITERATION_COMPLETED)
    pictures.writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Images("validation")] == epochs
