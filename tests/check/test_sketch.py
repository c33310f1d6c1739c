"""The small picture of a volume that the data check makes while it reads."""

import nibabel as nib
import numpy as np
import pytest
from helpers import save_labels

from scripts.check import sketch
from scripts.check.nifti import inspect_volume
from scripts.check.sketch import CLASS_SIDE, SIDE, Cells, Sketch, means, places

SHAPES = [(24, 24, 24), (25, 40, 9), (8, 60, 11), (61, 13, 33)]


def block_means(volume: np.ndarray, side: int) -> np.ndarray:
    """The same means by another way: one cell after the other."""
    cells = [min(n, side) for n in volume.shape]
    found = np.zeros(cells)
    for index in np.ndindex(*cells):
        inside = [np.flatnonzero(middles(n, c) == i) for n, c, i in zip(volume.shape, cells, index)]
        found[index] = volume[np.ix_(*inside)].mean()
    return found[np.ix_(*(middles(side, c) for c in cells))]


def middles(count: int, cells: int) -> np.ndarray:
    return np.floor((np.arange(count) + 0.5) / count * cells + 1e-9).astype(int)


@pytest.mark.parametrize("shape", SHAPES)
def test_means_of_cells(shape, tmp_path):
    volume = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    expected = block_means(volume, SIDE)
    expected = (expected - expected.min()) / (expected.max() - expected.min()) * 255
    assert np.abs(means(inspect_volume(tmp_path / "a.nii.gz")) - expected).max() <= 0.51


@pytest.mark.parametrize("shape", SHAPES)
def test_places_of_classes(shape, tmp_path):
    labels = np.random.default_rng(1).choice(3, shape, p=[0.9, 0.07, 0.03])
    found = places(inspect_volume(save_labels(tmp_path / "a.nii", labels)))
    assert set(found) == {1, 2}
    for value, grid in found.items():
        assert np.array_equal(grid, np.ceil((255 * block_means(labels == value, CLASS_SIDE)).round(6)))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL"])
def test_any_orientation_gives_the_same(codes, tmp_path):
    rng = np.random.default_rng(2)
    volume, labels = rng.integers(100, 900, (24, 48, 72)).astype(np.int16), rng.integers(0, 2, (24, 48, 72))
    change = nib.orientations.axcodes2ornt(tuple(codes))
    for name, values in (("image.nii", volume), ("label.nii", labels)):
        image = nib.Nifti1Image(values.astype(np.int16), np.eye(4))
        nib.save(image, tmp_path / f"plain_{name}")
        nib.save(image.as_reoriented(change), tmp_path / name)
    plain, turned = (inspect_volume(tmp_path / name) for name in ("plain_image.nii", "image.nii"))
    assert turned["orientation"] != "RAS" or codes == "RAS"
    assert np.array_equal(means(plain), means(turned))
    plain, turned = (inspect_volume(tmp_path / name) for name in ("plain_label.nii", "label.nii"))
    assert np.array_equal(places(plain)[1], places(turned)[1])


def test_of_a_large_image_some_voxels_are_enough(monkeypatch):
    volume = np.add.outer(np.add.outer(np.arange(40.0), np.arange(30.0)), np.arange(20.0)).ravel(order="F")
    grids = []
    for looked_at in (2**20, 8000):
        monkeypatch.setattr(sketch, "LOOKED_AT", looked_at)
        made = Sketch((40, 30, 20))
        for block in np.array_split(volume, 7):
            made.add(block, False)
        grids.append(means(made.facts() | {"orientation": "RAS"}))
    assert made.counted.sum() < volume.size / 2
    assert np.abs(grids[0] - grids[1]).max() < 25


def test_channels_are_averaged():
    rng = np.random.default_rng(3)
    picture = rng.integers(100, 255, (30, 20, 2, 3))
    made = Sketch(picture.shape)
    made.add(picture.ravel(order="F"), False)
    single = Sketch(picture.shape[:3])
    single.add(picture.mean(axis=3).ravel(order="F"), False)
    assert np.allclose(made.sums / made.counted, single.sums / single.counted)


def test_the_cells_have_all_voxels():
    for shape in SHAPES:
        cells = Cells(shape, SIDE)
        assert np.array_equal(np.bincount(cells.of(np.arange(np.prod(shape))), minlength=cells.count), cells.sizes)


def test_an_image_has_no_places(tmp_path):
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 300, np.int16), np.eye(4)), tmp_path / "a.nii")
    facts = inspect_volume(tmp_path / "a.nii")
    assert places(facts) == {} and not means(facts).any()


def test_labels_that_a_tool_has_written_as_nearly_whole_numbers_are_counted(tmp_path):
    labels = np.zeros((8, 8, 8))
    labels[2:4] = 1
    facts = inspect_volume(save_labels(tmp_path / "a.nii.gz", labels - 1e-6, dtype=np.float32))
    assert facts["counts"] == {"0": 384, "1": 128} and facts["off"] is None and set(places(facts)) == {1}
