"""The recipe of the residual attention U-Net: its three files, its chains, a tiny run from training to label maps."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import BUNDLE, CONFIGS, run, workflow
from helpers import measured, refusal, rows
from monai.data.utils import set_rnd
from monai.transforms import Compose

from scripts.networks.residual_attention_unet import ResidualAttentionUNet
from scripts.run.knobs import check

RECIPE = "recipe_hipmri_residual_attention.json"
FILES = {
    "train": ["train.json", RECIPE],
    "evaluate": ["train.json", "evaluate.json", RECIPE],
    "infer": ["inference.json", RECIPE],
}
TINY = {"spatial_size": [32, 32, 16], "widths": [16, 32], "num_workers": 0, "cache_workers": 1, "calibrate": False}
STILL = {"rotate_range": 0.0, "crop_share": 1.0, "elastic_shift": 0.0, "flip_probability": 0.0}
pytestmark = pytest.mark.usefixtures("in_the_bundle")


def read(name: str) -> dict:
    return json.loads((CONFIGS / name).read_text())


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    """One epoch of the recipe."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(BUNDLE)
        paths = {"dataset_dir": phantoms, "output_dir": folder, "ckpt_dir": folder / "models"}
        run("train", FILES["train"], base=TINY, epochs=1, **paths)
    return folder


def parts(phantoms, tmp_path, **overrides):
    """Deterministic chain, random chain and the first training case."""
    made = workflow("train", FILES["train"], base=TINY, dataset_dir=phantoms, output_dir=tmp_path, **overrides)
    made.initialize()
    still = Compose(made.parser.get_parsed_content("deterministic_chain"))
    moving = Compose(made.parser.get_parsed_content("random_chain"))
    return still, moving, made.parser.get_parsed_content("data")["training"][0]


# the file


def test_only_top_level_ids_and_each_is_used():
    recipe, bases = read(RECIPE), {**read("train.json"), **read("evaluate.json")}
    text = json.dumps(recipe)
    for name in recipe:
        assert not set(name) & set(":#+")
        assert name.startswith("_desc_") or name in bases or f"@{name}" in text, name


def test_the_deterministic_chain_is_the_shipped_one_but_for_intensities():
    own, shipped = read(RECIPE)["deterministic_chain"], read("train.json")["deterministic_chain"]
    other = [i for i, (mine, theirs) in enumerate(zip(own, shipped, strict=True)) if mine != theirs]
    assert [own[i]["_target_"] for i in other] == ["ScaleIntensityRangePercentilesd"]
    assert [shipped[i]["_target_"] for i in other] == ["NormalizeIntensityd"]


def test_the_network_is_the_one_of_networks_json():
    listed, own = read("networks.json")["residual_attention_unet"], read(RECIPE)
    assert own["network_def"] == {**listed, "widths": "@widths", "dropout": "@dropout"}
    assert (own["widths"], own["dropout"]) == (listed["widths"], listed["dropout"])


def test_its_knobs_are_checked():
    check(read(RECIPE))
    for name, wrong in (("crop_share", 0), ("crop_share", 1.2), ("elastic_shift", -0.1), ("elastic_shift", 0.07)):
        assert refusal(check, {name: wrong}).startswith(f"{name} is {wrong}: expected")


@pytest.mark.parametrize("kind", FILES)
def test_check_properties(kind, trained, phantoms, tmp_path):
    paths = {"dataset_dir": phantoms, "output_dir": trained, "ckpt_dir": tmp_path}
    made = workflow(kind, FILES[kind], base=TINY, **paths)
    made.initialize()
    assert made.check_properties() == []
    assert isinstance(made.parser.get_parsed_content("network_def"), ResidualAttentionUNet)


# its chains


def test_intensities_are_from_0_to_1_and_one_bright_voxel_changes_nothing(phantoms, tmp_path):
    still, _, case = parts(phantoms, tmp_path)
    item = still(case)
    assert item["image"].shape == item["label"].shape == (1, 32, 32, 16)
    assert (item["image"].dtype, item["label"].dtype) == (torch.float32, torch.uint8)
    assert (item["image"].min(), item["image"].max()) == (0, 1) and 0.05 < item["image"].mean() < 0.6
    image = nib.load(case["image"])
    values = np.asarray(image.dataobj).copy()
    values[3, 3, 3] = 30000
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "bright.nii")
    other = still({"image": str(tmp_path / "bright.nii"), "label": case["label"]})
    assert (other["image"] - item["image"]).abs().median() < 0.01


def test_nothing_moves_at_zero(phantoms, tmp_path):
    still, moving, case = parts(phantoms, tmp_path, **STILL)
    item = still(case)
    moved = moving(dict(item))
    assert torch.allclose(moved["image"], item["image"].as_tensor(), atol=1e-4)
    assert torch.equal(moved["label"], item["label"].as_tensor())
    assert not hasattr(moved["image"], "affine")


@pytest.mark.parametrize(
    "knob", [{"rotate_range": 0.3}, {"crop_share": 0.7}, {"elastic_shift": 0.05}, {"flip_probability": 1.0}]
)
def test_each_part_moves_image_and_label_alike(knob, phantoms, tmp_path):
    """The label as its own image: the two stay together, no value arises, and a seed gives the same again."""
    still, moving, case = parts(phantoms, tmp_path, **{**STILL, **knob})
    item = still(case)
    item["image"] = item["label"].float()
    drawn = []
    for seed in (1, 1, 2):
        set_rnd(moving, seed)
        drawn.append(moving(dict(item)))
    first, again, other = drawn
    assert torch.equal(first["image"], again["image"]) and torch.equal(first["label"], again["label"])
    assert "flip_probability" in knob or not torch.equal(first["label"], other["label"])
    assert not torch.equal(first["label"], item["label"].as_tensor())
    assert set(first["label"].unique().tolist()) <= set(range(6))
    assert ((first["image"] - first["label"]).abs() < 0.5).float().mean() > 0.9  # linear next to nearest


def test_a_crop_enlarges(phantoms, tmp_path):
    still, moving, case = parts(phantoms, tmp_path, **{**STILL, "crop_share": 0.5})
    item = still(case)
    item["label"] *= 0
    item["label"][:, 12:20, 12:20, 6:10] = 1
    grown = []
    for seed in range(20):
        set_rnd(moving, seed)
        grown.append(int(moving(dict(item))["label"].sum()) / int(item["label"].sum()))
    assert 1.5 < np.mean(grown) < 4 and 0.8 < min(grown) and max(grown) < 8.5


def test_elastic_shifts_stay_below_their_knob_and_fold_nothing(phantoms, tmp_path):
    """A ramp along each axis, deformed, tells how far every voxel has come and still rises."""
    still, moving, case = parts(phantoms, tmp_path, **{**STILL, "elastic_shift": 0.03}, spatial_size=[64, 64, 32])
    item = still(case)
    for axis, size in ((1, 64), (2, 64), (3, 32)):
        ramp = torch.arange(float(size)).reshape([1] + [size if i == axis else 1 for i in (1, 2, 3)])
        item["image"] = ramp.expand(1, 64, 64, 32).clone()
        set_rnd(moving, 3)
        moved = moving(dict(item))["image"]
        shift = (moved - item["image"]).abs().max() / (size - 1)
        assert 0.005 < shift <= 0.03 + 1e-6
        assert (moved.diff(dim=axis) > -1e-4).all()


# a run


def test_a_run_from_training_to_label_maps(trained, phantoms, tmp_path):
    assert [row["epoch"] for row in rows(trained / "history.csv")] == ["1"]
    listed = json.loads((trained / "datalist.json").read_text())
    assert {split: len(listed[split]) for split in ("training", "validation", "test")} == {
        "training": 6, "validation": 2, "test": 2,
    }  # fmt: skip
    assert json.loads((trained / "class_weights.json").read_text())["labels"] == 6
    saved = torch.load(trained / "models" / "last.pt", weights_only=True)
    assert saved["identity"]["knobs"]["crop_share"] == 0.8 and saved["identity"]["knobs"]["widths"] == [16, 32]
    paths = {"ckpt_dir": trained / "models", "base": TINY}
    run("evaluate", FILES["evaluate"], dataset_dir=phantoms, output_dir=trained, **paths)
    assert len(measured(trained / "metrics.csv")) == 2
    run("infer", FILES["infer"], dataset_dir=trained / "datalist.json", output_dir=tmp_path, pictures=False, **paths)
    written = sorted(tmp_path.glob("*_seg.nii.gz"))
    assert len(written) == 2 and all(nib.load(file).shape == (32, 32, 16) for file in written)
    assert not (tmp_path / "class_weights.json").exists()


def test_a_resumed_run_draws_what_an_unbroken_one_draws(phantoms, tmp_path):
    """Crops, shifts, flips and the voxels of a sampled loss: the same weights to the last bit."""
    given = {"dataset_dir": phantoms, "datalist": tmp_path / "list.json", "loss": "%configs/losses.json::sampled_bce"}
    for name, epochs, resume in (("whole", 2, False), ("broken", 1, False), ("broken", 2, True)):
        folders = {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name}
        run("train", FILES["train"], base=TINY, epochs=epochs, resume=resume, **given, **folders)
    whole, broken = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "broken"))
    assert whole["epoch"] == broken["epoch"] == 2
    assert all(torch.equal(value, broken["model"][name]) for name, value in whole["model"].items())
