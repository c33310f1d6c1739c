"""The losses by name, against their formulas, and the class weights, against a count by hand."""

import copy
import json
import logging
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import CONFIGS, TINY, workflow
from helpers import refusal, save_labels
from monai.bundle import ConfigParser

from scripts.check import cache
from scripts.core.errors import UserError
from scripts.networks.improved_unet import ImprovedUNet
from scripts.training import class_weights
from scripts.training.class_weights import RECORD, balanced_weights
from scripts.training.losses import CrossEntropy, DeepSupervision, SampledBCE, Sum

WEIGHTS = [0.1, 0.3, 0.6, 1.0, 1.5, 2.5]
CE_WEIGHT = 0.3
LOSSES = json.loads((CONFIGS / "losses.json").read_text())
NAMES = [name for name in LOSSES if not name.startswith("_")]
UNET = {"_target_": "scripts.networks.improved_unet.ImprovedUNet", "out_channels": 6, "features": 2, "levels": 3}
SHAPES = [(6, (8, 8)), (6, (6, 8, 4)), (1, (8, 8)), (1, (6, 8, 4))]


def loss(name: str, channels: int):
    """An entry of losses.json, with the weights of this file."""
    entry = json.loads(json.dumps(LOSSES[name]))
    for part in (entry, *entry.get("losses", [])):
        if "weight" in part:
            part["weight"] = WEIGHTS[: max(channels, 2)]
    content = {"loss": entry, "out_channels": channels, "ce_weight": CE_WEIGHT, "network_def": UNET}
    return ConfigParser(content).get_parsed_content("loss")


def example(channels: int, shape: tuple, dtype=torch.uint8):
    torch.manual_seed(0)
    return 3 * torch.randn(2, channels, *shape), torch.randint(0, max(channels, 2), (2, 1, *shape)).to(dtype)


def formulas(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Every loss in NumPy and double precision, as its formula."""
    z, y = logits.double().numpy(), labels.numpy()
    channels, axes = z.shape[1], tuple(range(2, z.ndim))
    if channels > 1:
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        truth = np.concatenate([y == value for value in range(channels)], 1).astype(float)
        likelihood, kept = (p * truth).sum(1), slice(1, None)
    else:
        p, truth = 1 / (1 + np.exp(-z)), y.astype(float)
        likelihood, kept = np.where(truth == 1, p, 1 - p), slice(None)
    p, t = p[:, kept], truth[:, kept]
    both, sizes = (p * t).sum(axes), p.sum(axes) + t.sum(axes)
    dice = np.mean(1 - (2 * both + 1e-5) / (sizes + 1e-5))
    ce = -np.log(likelihood)
    weight = np.array(WEIGHTS)[y.reshape(ce.shape).astype(int)]
    weighted = (weight * ce).sum() / weight.sum()
    q = 1 / (1 + np.exp(-z[:, kept]))
    hit = np.where(t == 1, q, 1 - q)
    batch_dice = np.mean(1 - (2 * both.sum(0) + 1e-5) / (sizes.sum(0) + 1e-5))
    return {
        "dice": dice,
        "batch_dice": batch_dice,
        "batch_dice_ce": batch_dice + CE_WEIGHT * ce.mean(),
        "dice_ce": dice + CE_WEIGHT * ce.mean(),
        "deep_dice_ce": dice + CE_WEIGHT * ce.mean(),  # the network has made no coarser scores
        "dice_focal": dice + np.mean(-((1 - hit) ** 2) * np.log(hit)),
        "dice_weighted_ce": dice + CE_WEIGHT * weighted,
        "cross_entropy": ce.mean(),
        "weighted_cross_entropy": weighted,
        "iou": np.mean(1 - (both + 1) / (sizes - both + 1)),
        "batch_iou": np.mean(1 - (both.sum(0) + 1) / ((sizes - both).sum(0) + 1)),
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels, shape", SHAPES)
def test_losses_are_what_their_formulas_say(channels, shape, dtype):
    logits, labels = example(channels, shape, dtype)
    expected = formulas(logits, labels)
    assert {*expected, "sampled_bce"} == set(NAMES)
    for name, value in expected.items():
        assert loss(name, channels)(logits, labels).item() == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels, shape", SHAPES)
def test_gradients_are_finite_and_lead_to_the_truth(name, channels, shape):
    """Also in mixed precision, and for very confident wrong predictions."""
    logits, labels = example(channels, shape)
    function = loss(name, channels)
    for scale in (1.0, 100.0):
        given = (scale * logits).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = function(given.bfloat16(), labels)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(given.grad).all() and given.grad.abs().max() > 0
    sure = torch.cat([labels == value for value in range(channels)], 1) if channels > 1 else labels
    wrong, right = function(logits, labels), function(20 * (sure.float() - 0.5), labels)
    assert 0 <= right < 0.05 < wrong


def test_the_shipped_loss_is_dice_ce():
    shipped = json.loads((CONFIGS / "train.json").read_text())["loss"]
    logits, labels = example(6, (8, 8))
    content = {"loss": shipped, "out_channels": 6, "ce_weight": CE_WEIGHT}
    assert ConfigParser(content).get_parsed_content("loss")(logits, labels) == loss("dice_ce", 6)(logits, labels)


@pytest.mark.parametrize("channels", [1, 6])
def test_sampled_bce(channels):
    """Half the voxels, other ones each time, the same after the same seed; all of them is the plain mean."""
    logits, labels = example(channels, (16, 16))
    truth = torch.cat([labels == value for value in range(channels)], 1) if channels > 1 else labels
    whole = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.float())
    assert SampledBCE(1.0)(logits, labels).item() == pytest.approx(whole.item(), rel=1e-5)
    function = loss("sampled_bce", channels)
    torch.manual_seed(5)
    drawn = [function(logits, labels).item() for _ in range(50)]
    assert len(set(drawn)) == 50 and np.mean(drawn) == pytest.approx(whole.item(), rel=0.05)
    torch.manual_seed(5)
    assert [function(logits, labels).item() for _ in range(3)] == drawn[:3]
    logits.requires_grad_()
    function(logits, labels).backward()
    touched = (logits.grad != 0).all(1)
    assert touched.sum() == touched.numel() / 2 and not (logits.grad != 0).any(1)[~touched].any()


def test_deep_supervision_adds_the_loss_of_the_coarser_scores():
    """Only in training; a forward pass of an average in between has no effect."""
    torch.manual_seed(0)
    network = ImprovedUNet(spatial_dims=2, out_channels=3, features=2, levels=3, dropout=0.0)
    plain = torch.nn.MSELoss()
    function = DeepSupervision(plain, network, share=0.3)
    x, labels = torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 8)
    logits = network.train()(x)
    coarsest, middle = function.coarser[::-1]
    assert middle.shape[2:] == (4, 4) and coarsest.shape[2:] == (2, 2)
    taken_down = torch.nn.functional.interpolate
    parts = [plain(s, taken_down(labels, s.shape[2:], mode="nearest-exact")) for s in (logits, middle, coarsest)]
    assert function(logits, labels).item() == pytest.approx((parts[0] + 0.3 * parts[1] + 0.09 * parts[2]).item())
    function(logits, labels).backward()
    assert all(segment.weight.grad.abs().max() > 0 for segment in network.segmentations)
    average = copy.deepcopy(network).eval()
    assert function(average(x), labels).item() == pytest.approx(plain(average(x), labels).item())
    assert function(network.eval()(x), labels).item() == pytest.approx(parts[0].item(), rel=1e-4)


def test_losses_refuse_what_does_not_fit():
    logits, labels = example(6, (8, 8))
    with pytest.raises(ValueError, match="weight has 2 values, expected 6"):
        CrossEntropy([1, 2])(logits, labels)
    with pytest.raises(ValueError, match="share is 0"):
        SampledBCE(0)
    with pytest.raises(ValueError, match="1 factors for 2 losses"):
        Sum([CrossEntropy(), CrossEntropy()], [1.0])
    with pytest.raises(UserError, match="Conv2d has no module upscale"):
        DeepSupervision(CrossEntropy(), torch.nn.Conv2d(1, 2, 1))


# class weights

CLASSES = ["background", "body", "prostate"]


@pytest.fixture
def cases(tmp_path):
    """Two labels of 512 voxels: 992 background, 30 body, 2 prostate in all."""
    first, second = np.zeros((8, 8, 8)), np.zeros((8, 8, 8))
    first.flat[:30] = 1
    second.flat[:2] = 2
    paths = [save_labels(tmp_path / "labels" / f"{i}.nii.gz", map_) for i, map_ in enumerate((first, second))]
    return [{"image": str(path), "label": str(path)} for path in paths]


def test_weights_are_inverse_frequencies(cases, tmp_path):
    found = class_weights.class_weights(cases, CLASSES, str(tmp_path), bound=1000)
    inverse = np.array([1 / 992, 1 / 30, 1 / 2])
    assert found == pytest.approx(list(3 * inverse / inverse.sum()))
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["voxels"] == {"background": 992, "body": 30, "prostate": 2} and record["labels"] == 2
    assert list(record["weights"].values()) == pytest.approx(found, abs=1e-4)


def test_weights_are_bounded():
    assert balanced_weights([96, 30, 2], 10) == pytest.approx([3 / 14.2, 9.6 / 14.2, 30 / 14.2])
    assert balanced_weights([96, 30, 2], 1) == [1, 1, 1]
    assert balanced_weights([96, 0, 2], 100) == pytest.approx([2 / 49, 0, 96 / 49])
    for voxels in ([5, 5], [10**9, 1, 0, 7], [0, 3]):
        found = np.array(balanced_weights(voxels, 20))
        present = found[np.array(voxels) > 0]
        assert present.mean() == pytest.approx(1) and present.max() <= 20 * present.min() * (1 + 1e-9)
    assert "bound is 0.5" in refusal(balanced_weights, [1, 2], 0.5)


def test_a_class_that_is_nowhere_weighs_nothing_and_is_named(cases, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = class_weights.class_weights(cases, [*CLASSES, "seminal vesicles"], str(tmp_path))
    assert found[3] == 0 and np.mean(found[:3]) == pytest.approx(1)
    (warned,) = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert "no training label has any seminal vesicles" in warned


def test_counts_are_kept_until_something_changes(cases, tmp_path, monkeypatch, caplog):
    read, inspect = [], cache.inspect_image
    monkeypatch.setattr(cache, "inspect_image", lambda path, *rest: read.append(path) or inspect(path, *rest))

    def weights(cases, names=CLASSES) -> tuple[list, int, str]:
        read.clear()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            found = class_weights.class_weights(cases, names, str(tmp_path))
        return found, len(read), caplog.messages[-1].split()[-1]

    first, *how = weights(cases)
    assert how == [2, "counted"]
    written = (tmp_path / RECORD).stat().st_mtime_ns
    assert weights(cases) == (first, 0, "remembered") and (tmp_path / RECORD).stat().st_mtime_ns == written
    assert weights(cases[::-1])[1:] == (0, "remembered")
    other, *how = weights(cases[:1])  # another list: counted anew, though no file has to be read for it
    assert how == [0, "counted"] and other != first
    (tmp_path / cache.MEMORY_NAME).unlink()
    assert weights(cases[:1])[1:] == (0, "remembered")
    assert weights(cases)[1:] == (2, "counted")
    save_labels(tmp_path / "labels" / "1.nii.gz", np.arange(512).reshape(8, 8, 8) % 3)
    changed, *how = weights(cases)
    assert how == [1, "counted"] and changed != first
    renamed, *how = weights(cases, ["background", "body", "bladder"])
    assert how == [0, "counted"] and renamed == changed
    for broken in ("", "[]", '{"key": 1, "voxels": 3}'):
        (tmp_path / RECORD).write_text(broken)
        assert weights(cases)[0] == changed


def test_labels_that_can_not_be_counted_are_refused_in_a_line(cases, tmp_path):
    assert "1.nii.gz: found values up to 2" in refusal(class_weights.class_weights, cases, CLASSES[:2], str(tmp_path))
    save_labels(tmp_path / "labels" / "0.nii.gz", np.full((8, 8, 8), 0.5), dtype=np.float32)
    assert "expected labels from 0 to 2" in refusal(class_weights.class_weights, cases, CLASSES, str(tmp_path))
    (tmp_path / "labels" / "0.nii.gz").write_bytes(b"nothing")
    assert "0.nii.gz" in refusal(class_weights.class_weights, cases, CLASSES, str(tmp_path))


def test_one_process_counts_for_all(cases, tmp_path):
    alone = class_weights.class_weights(cases, CLASSES, str(tmp_path))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        assert class_weights.class_weights(cases, CLASSES, str(tmp_path)) == alone
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", ["weighted_cross_entropy", "dice_weighted_ce"])
def test_weights_of_a_run_come_from_its_training_labels_alone(name, phantoms, tmp_path, monkeypatch):
    """Labels of validation and test may hold anything: the weights stay, and are those of a count by hand."""
    monkeypatch.chdir(CONFIGS.parent)
    shutil.copytree(phantoms, tmp_path / "data")
    given = {"dataset_dir": tmp_path / "data", "loss": f"%configs/losses.json::{name}"}

    def weights(output):
        made = workflow("train", ["train.json"], **given, output_dir=output, datalist=tmp_path / "datalist.json")
        made.initialize()
        function = made.parser.get_parsed_content("loss")
        data = made.parser.get_parsed_content("data")
        return (function.losses[1] if isinstance(function, Sum) else function).weight, data

    before, data = weights(tmp_path / "one")
    maps = [np.asarray(nib.load(case["label"]).dataobj) for case in data["training"]]
    counts = sum(np.bincount(labels.ravel(), minlength=6) for labels in maps)
    assert before.tolist() == pytest.approx(balanced_weights(counts.tolist(), 20))
    for case in data["validation"] + data["test"]:
        save_labels(tmp_path / case["label"], np.full((32, 32, 16), 5))
    after, _ = weights(tmp_path / "two")
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_is_an_override_away(name, phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    given = {"dataset_dir": phantoms, "output_dir": tmp_path, "loss": f"%configs/losses.json::{name}"}
    made = workflow("train", ["train.json"], base=TINY, **given)
    made.initialize()
    assert torch.isfinite(made.parser.get_parsed_content("loss")(*example(6, (8, 8, 8))))
