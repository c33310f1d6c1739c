"""The deterministic and the random chain, as train.json has them."""

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import workflow


def chain(name, phantoms, tmp_path, **overrides):
    made = workflow("train", ["train.json"], dataset_dir=phantoms, output_dir=tmp_path, **overrides)
    made.initialize()
    return made.parser.get_parsed_content(name), made.parser.get_parsed_content("data")["training"][0]


def test_deterministic_chain_normalises_and_keeps_label_values(phantoms, tmp_path):
    preprocessing, case = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[48, 40, 24])
    item = preprocessing(case)
    assert item["image"].shape == item["label"].shape == (1, 48, 40, 24)
    assert (item["image"].dtype, item["label"].dtype) == (torch.float32, torch.uint8)
    assert abs(item["image"].mean()) < 1e-4 and abs(item["image"].std() - 1) < 1e-3
    assert set(item["label"].unique().tolist()) == set(range(6))


def test_no_class_arises_between_two_others(phantoms, tmp_path):
    """Averaged labels put a false rim around every organ: 0 next to 5 would turn 2 or 3."""
    labels = np.zeros((32, 32, 16), np.uint8)
    labels[8:23, 9:20, 5:12] = 5
    for name in ("image", "label"):
        nib.save(
            nib.Nifti1Image(labels if name == "label" else labels.astype(np.float32), np.eye(4)),
            tmp_path / f"{name}.nii",
        )
    preprocessing, _ = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[24, 24, 24])
    item = preprocessing({"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")})
    assert item["label"].unique().tolist() == [0, 5]


def test_label_resize_is_centred(phantoms, tmp_path):
    """A structure keeps its centre and volume when the grid is halved; nearest neighbour shifts it by half a voxel."""
    labels = np.zeros((64, 64, 32), np.uint8)
    labels[20:40, 12:32, 8:20] = 3
    for name in ("image", "label"):
        nib.save(nib.Nifti1Image(labels.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii")
    preprocessing, _ = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[32, 32, 16])
    small = preprocessing({"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")})["label"]
    centre = (np.argwhere(small[0].numpy() == 3).mean(0) + 0.5) * 2
    assert np.allclose(centre, [30, 22, 14])
    assert (small == 3).sum() * 8 == (labels == 3).sum()


def test_random_chain_keeps_values_and_moves_image_and_label_alike(phantoms, tmp_path):
    preprocessing, case = chain("train::preprocessing", phantoms, tmp_path, noise_std=0.0)
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    case = {"image": case["label"], "label": case["label"]}  # the label as its own image
    moved, unmoved = preprocessing(case), still(case)
    assert not torch.equal(moved["label"], unmoved["label"])
    assert set(moved["label"].unique().tolist()) <= set(range(6))
    body = moved["label"] > 0
    assert moved["image"][body].mean() > moved["image"][~body].mean() + 1
    first = [float(moved["image"][moved["label"] == value].mean()) for value in (0, 1, 2, 3)]
    assert first == sorted(first)


def test_rotation_and_noise_of_zero_change_nothing(phantoms, tmp_path):
    preprocessing, case = chain(
        "train::preprocessing", phantoms, tmp_path, rotate_range=0.0, noise_std=0.0, flip_probability=0.0
    )
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    moved, unmoved = preprocessing(case), still(case)
    assert torch.allclose(moved["image"], unmoved["image"], atol=1e-4)
    assert torch.equal(moved["label"], unmoved["label"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flip_twice_is_identity(axis, phantoms, tmp_path):
    random_chain, case = chain("random_chain", phantoms, tmp_path, flip_axis=axis, flip_probability=1.0)
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    item, flip = still(case), random_chain[1]
    once = flip(dict(item))
    assert torch.equal(once["image"], torch.flip(item["image"], [axis + 1]))
    assert torch.equal(flip(dict(once))["image"], item["image"])


def test_flip_axis_0_is_left_right(phantoms, tmp_path):
    still, case = chain("validate::preprocessing", phantoms, tmp_path)
    assert nib.aff2axcodes(still(case)["image"].affine.numpy()) == ("R", "A", "S")


def test_noise_has_the_declared_spread(phantoms, tmp_path):
    random_chain, case = chain("random_chain", phantoms, tmp_path, noise_std=0.3)
    still, _ = chain("validate::preprocessing", phantoms, tmp_path)
    item = still(case)
    noise = random_chain[2](dict(item))["image"] - item["image"]
    assert abs(float(noise.std()) - 0.3) < 0.02 and abs(float(noise.mean())) < 0.02


def test_invert_returns_the_grid(phantoms, tmp_path):
    """Down to the network's grid and back: the label comes home to the same voxels."""
    preprocessing, case = chain("validate::preprocessing", phantoms, tmp_path, spatial_size=[64, 64, 32])
    item = preprocessing(case)
    back = preprocessing.inverse({"image": item["image"]})["image"]
    original = nib.load(case["image"])
    assert back.shape[1:] == original.shape
    assert np.allclose(back.affine.numpy(), original.affine)
