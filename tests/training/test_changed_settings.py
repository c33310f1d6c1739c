"""Every id of train.json and of its patches, changed one by one: a resumed run is refused, or the id may change."""

import json
from pathlib import Path

import pytest
from conftest import BUNDLE, CONFIGS, TINY, workflow
from helpers import refusal

from scripts.data.layouts import find_pairs
from scripts.run import knobs

FILE = Path("last.pt")
RECIPES = {  # the files of a run, and what makes it tiny
    "train.json": (["train.json"], {}),
    "strong.json": (["train.json", "strong.json"], {}),
    "demo.json": (["train.json", "demo.json"], {}),
    "finetune.json": (["train.json", "finetune.json"], {}),
    "resize_last.json": (["train.json", "resize_last.json"], {}),
    "recipe_hippocampus.json": (["train.json", "recipe_hippocampus.json"], {"window_size": [32, 32, 16], "levels": 3}),
    "recipe_promise12.json": (["train.json", "recipe_promise12.json"], {"levels": 3}),
    "recipe_hipmri_residual_attention.json": (
        ["train.json", "recipe_hipmri_residual_attention.json"],
        {"widths": [16, 16]},
    ),
    "recipe_hipmri_2d.json": (["train.json", "recipe_hipmri_2d.json"], {"spatial_size": [32, 16], "widths": [4, 8]}),
    "recipe_cardiac_2d.json": (["train.json", "recipe_cardiac_2d.json"], {"spatial_size": [64, 64], "widths": [4, 8]}),
    "recipe_lgg_2d.json": (["train.json", "recipe_lgg_2d.json"], {"spatial_size": [32, 32], "widths": [4, 8]}),
    "strong_2d.json": (
        ["train.json", "recipe_lgg_2d.json", "strong_2d.json"],
        {"spatial_size": [32, 32], "widths": [4, 8]},
    ),
}
# Their learning rate depends on the number of epochs.
SCHEDULED = ("strong.json", "strong_2d.json", "recipe_promise12.json", "finetune.json")
BOOKKEEPING = "says how a run is checked, recorded or ended; no step of the training depends on it"
MAY_CHANGE = {  # id: why a resumed run may have another value
    "epochs": "more epochs lengthen a run; a schedule that depends on their number is compared itself",
    "early_stop_patience": "decides when a run ends, and no step before",
    "picture_interval": "decides which pictures TensorBoard shows",
    **dict.fromkeys(("cache", "cache_rate", "cache_dir", "cache_limit", "kept"), "kept cases are the same cases"),
    "cache_workers": "the order of the cases doesn't depend on it",
    "num_workers": "by default it follows from the cores of the machine; the guide says what it changes",
    "device": "a run may move to another machine; what follows from it, such as amp, is compared",
    "dataset_dir": "a data set may move; the cases are compared by their paths within it",
    "datalist": "the cases in it are compared",
    **dict.fromkeys(("data", "cases", "handed_over", "keep_patients_together"), "the cases are compared"),
    "displayable_configs": "the knobs' values, which another program may replace; what follows from them is compared",
    **dict.fromkeys(("validation_share", "test_share", "folds", "fold", "by_slice"), "the cases are compared"),
    **dict.fromkeys(
        ("output_dir", "ckpt_dir", "log_dir", "bundle_root", "own_folder"), "results may be written elsewhere"
    ),
    **dict.fromkeys(("resume", "resume_changed"), "ask for a run to be resumed"),
    **dict.fromkeys(
        ("imports", "initialize", "training", "run", "finalize", "command_line")
        + (
            "knobs",
            "session",
            "pred_and_label",
            "data_check",
            "history",
            "early_stop",
            "best_model",
            "checkpoints",
            "start_score",
        )
        + ("run_identity", "interruption", "debug", "show_progress", "main_process"),
        BOOKKEEPING,
    ),
    **dict.fromkeys(
        ("mirror_axes", "single_piece", "keep_largest", "shipped_weights", "more_handlers", "doubt_from"),
        "used in evaluation and inference only",
    ),
    **dict.fromkeys(("calibrate", "calibration"), "comes after the training"),
    "pretrained": "the weights in the file are compared, in test_pretrained.py",
    "pretrained_weights": "likewise",
    "encoder_weights": "first weights, which those of the checkpoint replace",
    "class_weights": "the loss that takes them is compared",
    "iterations": "follows from epochs; the schedule that depends on it is compared",
    "averaged": "the network or its average, as averaging says; the evaluator that it is given to is compared",
    "reader": "reads the same files; null lets MONAI choose by the file's type",
}
CHANGED = {  # id: another value, where a rule below does not give one
    "class_names": ["background", "one", "two", "three", "four", "five", "six"],
    "spatial_dims": None,  # below, with what depends on it
    "in_channels": 2,
    "out_channels": 9,
    "spatial_size": [48, 48, 48],
    "half": True,
    "amp": True,
    "freezing": {
        "_target_": "scripts.training.freezing.FrozenEncoder",
        "epochs": 3, "network": "@network", "averaged": "@averaged",
    },
    "early_changes": {"_target_": "scripts.training.early_changes.EarlyChanges", "share": 0.5, "transforms": []},
    "contrast_range": [0.9, 1.1],
    "warmup": 0.5,
    "widths": [32, 32],
    "window_size": [48, 48, 48],
    "kept_share": [0.5, 0.5, 0.5],
    "kernel": 5,
    "first_kernel": 5,
    "activation": "leakyrelu",
    "norm": ["group", {"num_groups": 2}],
    "slice_axes": "RAS",
    "dropout": 0.25,
    "averaging": {"_target_": "ignite.handlers.EMAHandler", "model": "@network", "momentum": 0.5},
    "loss": {"_target_": "DiceLoss", "to_onehot_y": True, "softmax": True, "squared_pred": True},
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.01},
    "lr_scheduler": {"_target_": "torch.optim.lr_scheduler.ConstantLR", "optimizer": "@optimizer"},
    "plain_inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
    "chain_keys": ["image"],
    "to_labels": {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
    "deterministic_chain": [{"_target_": "LoadImaged", "keys": ["image", "label"]}],
    "random_chain": [{"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.125}],
    "drawn_slices": {
        "_target_": "RandSpatialCropSamplesd", "keys": ["image", "label"], "roi_size": [8, 8, 1], "num_samples": 1,
    },
    "full_size_chain": [{"_target_": "LoadImaged", "keys": ["image", "label"]}],
    "resize_chain": [{"_target_": "EnsureTyped", "keys": ["image", "label"]}],
    "network_def": {
        "_target_": "scripts.networks.improved_unet.ImprovedUNet",
        "out_channels": "@out_channels", "features": 2, "levels": 4, "variant": "paper",
    },
    "network": "$@network_def.to(@device).requires_grad_(True).to(torch.float64)",
    "train": {"dataloader::drop_last": True},
    "validate": {"dataloader::batch_size": 2},
}  # fmt: skip
UNUSED = {  # by a configuration alone: they are for the random chains of patches
    "train.json": ("overhang", "early_changes"),
    "recipe_cardiac_2d.json": ("slices_per_scan", "drawn_slices"),
    "recipe_hipmri_2d.json": ("flip_probability", "rotate_range"),
}
DEEP = {  # other ids that the command line can change, and a word of the message
    "loss::lambda_ce": (5, "loss::lambda_ce was 0.2, is 5"),
    "loss::include_background": (True, "loss::dice::include_background was False, is True"),
    "loss::jaccard": (True, "loss::dice::jaccard was False, is True"),
    "optimizer::betas": ([0.5, 0.9], "betas was [0.9, 0.999], is [0.5, 0.9]"),
    "optimizer::lr": (0.25, "lr was 0.0005, is 0.25"),
    "lr_scheduler::gamma": (0.5, "lr_scheduler::gamma was 0.985, is 0.5"),
    "network_def::variant": ("paper", "network_def was ImprovedUNet"),
    "network_def::dropout": (0.1, "network_def::"),
    "network_def::levels": (4, "network_def was ImprovedUNet"),
    "deterministic_chain::5::mode": ("nearest", "train::preprocessing::transforms::5 (Resized)::mode"),
    "random_chain::1::prob": (0.125, "train::preprocessing::transforms::11 (RandFlipd)::prob was 0.5, is 0.125"),
    "random_chain::2::sample_std": (True, "sample_std was False, is True"),
    "train::dataloader::batch_size": (3, "batch_size was 2, is 3"),
    "train::dataloader::shuffle": (False, "RandomSampler, is SequentialSampler"),
    "train::dataloader::drop_last": (True, "drop_last was False, is True"),
    "train::inferer::inferer": ({"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}, "inferer"),
    "train::trainer::amp": (True, "train::trainer::amp was False, is True"),
    "train::trainer::accumulation_steps": (3, "train::trainer::accumulation_steps was 1, is 3"),
    "train::trainer::optim_set_to_none": (True, "optim_set_to_none was False, is True"),
    "train::handlers::0::seed": (7, "train::handlers::0 (SeedEachEpoch)::seed was 0, is 7"),
    "train::handlers::2::epoch_level": (False, "epoch_level was True, is False"),
    "train::handlers::3::interval": (5, "train::handlers::3 (ValidateEpochs)::interval was 1, is 5"),
    "validate::preprocessing::transforms": ([], "validate::preprocessing::transforms was"),
    "validate::postprocessing::transforms": ([], "validate::evaluator::"),
    "validate::key_metric::val_mean_dice::include_background": (True, "include_background was False, is True"),
    "inferer::inferer": ({"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}, "inferer"),
    "validate::evaluator::amp": (True, "validate::evaluator::amp was False, is True"),
    "validate::dataloader::batch_size": (2, "validate::dataloader::"),
}
DEEP_MAY_CHANGE = {  # likewise, with the reason why it may change
    "network_def::checkpointing": (True, "saves memory, and the gradients are the same"),
    "train::dataloader::pin_memory": (True, "how data are loaded, not which"),
    "train::dataset::workers": (3, "how data are loaded, not which"),
    "validate::handlers::0::iteration_log": (True, "what TensorBoard shows"),
}


@pytest.fixture(scope="module")
def data(phantoms) -> dict:
    pairs = [
        {key: str(phantoms / pair[key]) for key in ("image", "label")} for pair in find_pairs(str(phantoms), False)
    ]
    return {"description": "phantoms", "training": pairs[:4], "validation": pairs[4:6], "test": []}


@pytest.fixture
def identity(data, phantoms, tmp_path, monkeypatch):
    """Builds what a run is compared by; nothing is cached, checked or trained."""
    monkeypatch.chdir(BUNDLE)
    monkeypatch.setattr(knobs, "supports_bfloat16", lambda device: True)  # whatever this processor has

    def make(name: str, **changed):
        files, tiny = RECIPES[name]
        kept = {"_target_": "scripts.training.cache.Kept", "where": "none", "share": 0.0}
        quiet = {"kept": kept, "main_process": False, "device": "cpu", "amp": False, "half": False, "data": data}
        paths = {"dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path}
        made = workflow("train", files, **{**TINY, **tiny, **quiet, **paths, **changed})
        return made.parser.get_parsed_content("run_identity")

    return make


def other(name: str, value: object) -> object:
    """Another value of a top-level id, None where there is no rule for it."""
    if name in CHANGED:
        return CHANGED[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value * 0.5 + 0.01 if isinstance(value, float) else None


def ids(file: str) -> list[str]:
    return [key for key in json.loads((CONFIGS / file).read_text()) if key[0] != "_" and "::" not in key]


@pytest.mark.parametrize("file", list(RECIPES))
def test_every_id_is_compared_or_may_change(file, identity, monkeypatch):
    """One after the other: classes without their maps too, which a run refuses."""
    monkeypatch.setattr(knobs, "check_outputs", lambda *_: None)
    values = json.loads((CONFIGS / file).read_text()) | RECIPES[file][1] | TINY | {"half": False, "amp": False}
    before = {"identity": identity(file).state_dict()}
    identity(file).compare(before, FILE)
    unclassified, unseen = [], []
    for name in ids(file):
        if name in MAY_CHANGE and not (file in SCHEDULED and name == "epochs"):
            continue
        if name in UNUSED.get(file, ()):
            continue
        value = other(name, values.get(name))
        if name in ("train", "validate"):
            changed = {f"{name}::{key}": item for key, item in value.items()}
        elif name == "spatial_dims":
            changed = {"network_def::spatial_dims": 5 - values[name]}
        elif name == "spatial_size":
            changed = {name: value[: len({**TINY, **RECIPES[file][1]}[name])]}
        else:
            changed = {name: value}
        if value is None and name != "spatial_dims":
            unclassified.append(name)
            continue
        try:
            message = refusal(identity(file, **changed).compare, before, FILE)
        except pytest.fail.Exception:
            unseen.append(name)
        else:
            assert " was " in message and len(message) < 2500, message
    assert (unclassified, unseen) == ([], [])


@pytest.mark.parametrize("name", list(DEEP))
def test_a_deep_change_is_named(name, identity, before):
    value, words = DEEP[name]
    assert words in refusal(identity("train.json", **{name: value}).compare, before, FILE)


@pytest.fixture(scope="module")
def states() -> dict:
    return {}


@pytest.fixture
def before(identity, states) -> dict:
    return states.setdefault("before", {"identity": identity("train.json").state_dict()})


@pytest.mark.parametrize("loss", ["dice", "iou", "batch_dice", "dice_focal", "deep_dice_ce"])
def test_two_losses_are_told_apart(loss, identity, before):
    now = identity("train.json", loss=f"%configs/losses.json::{loss}")
    assert "loss" in refusal(now.compare, before, FILE)
    again = identity("train.json", loss=f"%configs/losses.json::{loss}")
    again.compare({"identity": now.state_dict()}, FILE)
    if loss != "iou":
        iou = identity("train.json", loss="%configs/losses.json::iou")
        assert "loss" in refusal(iou.compare, {"identity": now.state_dict()}, FILE)


def test_what_may_change_is_let_pass(identity, before, tmp_path):
    others = {
        "epochs": 7, "early_stop_patience": 3, "picture_interval": 2, "cache_workers": 2,
        "num_workers": 2, "output_dir": tmp_path / "other", "ckpt_dir": tmp_path / "other", "log_dir": tmp_path,
        "resume": True, "resume_changed": False, "debug": True, "show_progress": True, "main_process": True,
        "validation_share": 0.5, "shipped_weights": "x.json",
    }  # fmt: skip
    for name, value in {**others, **{name: value for name, (value, _) in DEEP_MAY_CHANGE.items()}}.items():
        identity("train.json", **{name: value}).compare(before, FILE)


@pytest.mark.parametrize(
    "file, name, words",
    [
        ("strong.json", "epochs", "lr_scheduler::t_total"),
        ("finetune.json", "rate_factor", "lr was 0.000125, is"),
        ("finetune.json", "frozen_epochs", "frozen_epochs was 1, is 2"),
        ("strong.json", "contrast_range", "contrast_range was [0.7, 1.5], is [0.9, 1.1]"),
        ("strong.json", "averaging_parts", "momentum was"),
        ("strong_2d.json", "averaging_rate", "averaging_rate was 0.01, is"),
        ("strong.json", "early_share", "share was 0.67, is"),
        ("strong.json", "schedule_by_epoch", "schedule_by_epoch was False, is True"),
        ("train.json", "learning_rate", "learning_rate was 0.0005, is"),
        ("train.json", "noise_std", "noise_std was 0.18, is"),
        ("train.json", "copies", "copies was 1, is 2"),
        ("train.json", "keep_last", "keep_last was False, is True"),
        ("train.json", "val_interval", "interval was 1, is 2"),
        ("recipe_hippocampus.json", "window_size", "window_size was [32, 32, 16], is [48, 48, 48]"),
    ],
)
def test_a_change_is_named_in_the_words_of_the_configuration(file, name, words, identity):
    values = {
        key: value for part in RECIPES[file][0] for key, value in json.loads((CONFIGS / part).read_text()).items()
    }
    before = {"identity": identity(file).state_dict()}
    assert words in refusal(identity(file, **{name: other(name, values[name])}).compare, before, FILE)
