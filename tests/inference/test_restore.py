"""Labels on the image's grid: those of Invertd and an argmax, whatever the chain did."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import CONFIGS, run
from helpers import refusal
from monai.data import MetaTensor
from monai.transforms import (
    AsDiscreted,
    CenterSpatialCropd,
    Compose,
    Invertd,
    LoadImaged,
    Orientationd,
    Resized,
    Rotated,
    SpatialPadd,
)

from scripts.data.label_maps import read_labels
from scripts.inference import fastest
from scripts.inference.restore import RestoreLabelsd, restore
from scripts.phantoms.generate import CLASSES

OBLIQUE = np.array([[0.1, -1.9, 0, 5], [0, 0.1, -1.4, 9], [-1.2, 0, 0.05, -3], [0, 0, 0, 1.0]])
AFFINES = {"plain": np.eye(4), "mirrored": np.diag([-1.5, 2, -3, 1.0]), "oblique and permuted": OBLIQUE}
CHAINS = {
    "smaller": [Resized("image", spatial_size=(12, 10, 7), mode="trilinear")],
    "larger": [Resized("image", spatial_size=(30, 41, 33), mode="trilinear")],
    "as it is": [],
    "padded": [SpatialPadd("image", spatial_size=(32, 32, 32))],
    "cropped": [CenterSpatialCropd("image", roi_size=(12, 10, 14))],
    "one slice": [Resized("image", spatial_size=(12, 10, 1), mode="trilinear")],
}


def scores(shape, seed: int = 0) -> torch.Tensor:
    """Smooth maps of four classes, as a network gives."""
    torch.manual_seed(seed)
    coarse = torch.randn(1, 4, 4, 4, 4)
    return torch.nn.functional.interpolate(coarse, tuple(shape), mode="trilinear")[0]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)
def test_the_labels_are_those_of_invertd(steps, affine, tmp_path):
    file = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((21, 18, 24), np.float32), affine), file)
    load = LoadImaged("image", ensure_channel_first=True, image_only=True)
    before = Compose([load, Orientationd("image", axcodes="RAS", labels=None), *steps])
    item = before({"image": str(file)})
    item["pred"] = MetaTensor(scores(item["image"].shape[1:]))
    inverse = Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True)
    expected = AsDiscreted("pred", argmax=True)(inverse(dict(item)))["pred"]
    found = RestoreLabelsd("pred", "image")(item)["pred"]
    assert found.shape == expected.shape == (1, 21, 18, 24) and found.dtype == torch.uint8
    assert np.allclose(found.affine, affine, atol=1e-4)
    assert (found.as_tensor() == expected.as_tensor()).float().mean() > 0.9995  # but for rounding of equals
    assert len(found.unique()) > 1


def test_a_chain_that_turns_between_voxels_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), tmp_path / "image.nii.gz")
    turn = Rotated("image", angle=(0.3, 0, 0), keep_size=True)
    load = LoadImaged("image", ensure_channel_first=True, image_only=True)
    item = Compose([load, turn])({"image": str(tmp_path / "image.nii.gz")})
    item["pred"] = scores((9, 9, 9))
    assert "run without fast.json" in refusal(RestoreLabelsd("pred", "image"), item)


def test_one_map_is_no_score_for_each_class():
    message = refusal(restore, torch.zeros(1, 4, 4, 4), torch.eye(4).double(), torch.eye(4).double(), [4, 4, 4])
    assert "found 1 map(s)" in message


def test_the_patch_gives_the_maps_that_inference_gives(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(fastest, "is_missing", lambda: True)  # no timing
    paths = {"dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path}
    run("train", ["train.json"], epochs=3, learning_rate=0.01, **paths)
    maps = {}
    restoring = json.loads((CONFIGS / "inference.json").read_text())["restoring"]
    softmax = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
    for name, patches, options in (
        ("plain", [], {}),
        ("fast", ["fast.json"], {}),
        ("zoo", [], {"restoring": [softmax, *restoring]}),
        ("softmax", ["fast.json"], {"softmax_first": True, "half": False}),
    ):
        given = {"dataset_dir": tmp_path / "datalist.json", "output_dir": tmp_path / name, "ckpt_dir": tmp_path}
        run("infer", ["inference.json", *patches], spatial_size=[32, 16, 16], pictures=False, **given, **options)
        maps[name] = np.concatenate(
            [read_labels(file, CLASSES)[0].ravel() for file in sorted((tmp_path / name).glob("*_seg.nii.gz"))]
        )
    some = (maps["plain"] > 0) | (maps["fast"] > 0)
    assert some.any() and (maps["plain"] == maps["fast"])[some].mean() > 0.97
    assert (maps["zoo"] != maps["softmax"]).sum() <= 2 < (maps["zoo"] != maps["plain"]).sum()
    run("evaluate", ["train.json", "evaluate.json", "fast.json"], **paths)
    assert json.loads((tmp_path / "metrics.json").read_text())["foreground"]["n"] > 0
    assert "restoring" in json.loads((CONFIGS / "inference.json").read_text())
