"""The settings that a plan chooses, by what the data are like and by the time and memory that are given."""

import json
import logging
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CONFIGS
from helpers import refusal
from monai.bundle import ConfigParser
from monai.transforms import Compose
from plan_samples import write_set

from scripts.check.dataset import check_listed
from scripts.plan import choices
from scripts.plan.chains import name_of
from scripts.plan.choices import ENOUGH_STEPS, MOST_STEPS, cached_gib, make_plan, prepared_shape, windows
from scripts.plan.fingerprint import Fingerprint, fingerprint
from scripts.plan.settings import Plan
from scripts.plan.timing import Cost, affordable

FAST = Cost(step=1e-4, scoring=1e-4, gib=0.1)


def facts_of(folder, tmp_path) -> Fingerprint:
    found, names = check_listed(str(folder), None, None, str(tmp_path / "out"), 1, pieces=True)
    assert not found.errors
    return fingerprint(found, names)


def plan_for(data: Fingerprint, minutes: float = 60, memory: float = 8, cost=lambda patch, shape: FAST) -> Plan:
    return make_plan(data, minutes, memory, cost)


def changed(data: Fingerprint, shape: tuple, spacing: tuple, **facts) -> Fingerprint:
    """The same data with images of another size, without writing them."""
    geometry = {"ras_shape": list(shape), "spacing": list(spacing)} | facts
    return Fingerprint(
        [image | geometry for image in data.images], [label | geometry for label in data.labels],
        data.class_names, data.patients, data.sliced,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def processor(monkeypatch):
    """A processor without bfloat16, whatever this one has."""
    monkeypatch.setattr(choices, "supports_bfloat16", lambda device: False)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Fingerprint:
    folder = tmp_path_factory.mktemp("small")
    return facts_of(write_set(folder / "data"), folder)


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory) -> Fingerprint:
    folder = tmp_path_factory.mktemp("symmetric")
    return facts_of(write_set(folder / "data", both_hands=True), folder)


def test_small_images_keep_their_voxels_and_one_hand_has_no_mirror_images(small):
    plan = plan_for(small)
    settings = plan.settings
    assert settings["spatial_size"] == settings["window_size"] == [32, 40, 32]
    assert "Resized" not in json.dumps(settings["deterministic_chain"])
    assert (settings["flip_probability"], settings["mirror_axes"]) == (0, [])
    assert settings["single_piece"] == ["organ"] and settings["keep_largest"] is True
    assert settings["folds"] == 5 and "12 patients" in plan.reasons["folds"]


def test_few_cases_do_not_tell_whether_mirror_images_occur(small, symmetric):
    few = replace(small, images=small.images[:9], labels=small.labels[:9])
    plan = plan_for(few)
    assert min(float(np.median(values)) for values in few.hands.values()) > 0.2  # which is no sign of symmetry
    assert plan.settings["flip_probability"] == 0.5
    assert plan.reasons["flip_probability"].startswith("Fewer than 10 cases do not tell")
    assert plan_for(symmetric).reasons["flip_probability"].startswith("Mirror images are as likely")


def test_patients_without_a_label_are_not_divided(tmp_path):
    found, names = check_listed(str(write_set(tmp_path / "data", cases=3)), None, None, str(tmp_path / "out"), 1)
    found.cases[2] = found.cases[2]._replace(label=None)
    assert fingerprint(found, names).patients == 2


@pytest.mark.parametrize("patients, folds, tested", [(3, 3, 0.0), (59, 5, 0.0), (60, None, None), (201, None, 0.1)])
def test_few_patients_are_divided_into_folds(small, patients, folds, tested):
    """The shares of train.json are left as they are where neither few nor many are there."""
    settings = plan_for(replace(small, patients=patients)).settings
    assert (settings.get("folds"), settings.get("test_share")) == (folds, tested)


@pytest.mark.parametrize("whole, half", [(0.9, False), (1.0, "as shipped")])
def test_float32_is_taken_where_it_is_faster(small, monkeypatch, whole, half):
    """Both are timed once; where bfloat16 is no slower, the plan decides on each machine, as strong.json does."""
    monkeypatch.setattr(choices, "supports_bfloat16", lambda device: True)
    monkeypatch.setattr(choices.torch.cuda, "is_available", lambda: False)
    tried = []

    def cost(patch, shape):
        tried.append((patch["features"], patch["half"]))
        return Cost(whole if patch["half"] is False else 1.0, 1.0, 0.1)

    plan = plan_for(small, minutes=0.1, cost=cost)
    shipped = json.loads((CONFIGS / "strong.json").read_text())["half"]
    assert plan.settings["half"] == (half if half is False else shipped)
    assert tried == [(16, shipped), (16, False), (8, half if half is False else shipped)]
    assert plan.cost.step == whole and ("0.90 s in float32" in plan.reasons.get("half", "")) is (half is False)


def test_the_smallest_plan_has_a_length_too(small):
    tried = []
    plan = plan_for(
        small, minutes=0.1, cost=lambda patch, shape: tried.append(patch["features"]) or Cost(1.0, 1.0, 0.1)
    )
    assert tried == [16, 8] and plan.settings["features"] == 8  # small images have one size
    assert plan.settings["epochs"] == 1 and "for 0.1 minutes" in plan.reasons["epochs"]
    assert "of no size did 4000 steps fit" in plan.reasons["features"]
    assert "of which 4000 steps fit" in plan_for(small).reasons["features"]


def test_one_epoch_of_many_cases_does_not_fit_because_it_is_one(small):
    """An epoch of 4000 steps or more is enough of them, but only where there is time for it."""
    many = replace(changed(small, (256, 256, 128), (1, 1, 1)), labels=small.labels * 500, patients=6000)

    def cost(patch, shape) -> Cost:
        return Cost(1e-6 * float(np.prod(patch["spatial_size"])), 1e-4, 0.1)

    hurried, patient = (plan_for(many, minutes=minutes, cost=cost) for minutes in (20, 200))
    assert patient.cost.step * patient.steps <= 60 * 200 and patient.settings["features"] == 16
    assert hurried.cost.step < patient.cost.step and hurried.settings["features"] == 8
    assert "of no size did 4000 steps fit" in hurried.reasons["features"]


def test_a_batch_of_pictures_is_one_step(small, caplog):
    data = replace(small, labels=small.labels * 2)
    plan = plan_for(data)
    plan.settings["batch_size"] = 8
    choices.choose_length(plan, data, 60)
    training, _ = choices.split_sizes(plan, data)
    assert plan.steps == plan.settings["epochs"] * math.ceil(training / 8)
    plan.cost = Cost(60.0, 0.0, 0.1)
    choices.say_what_is_too_much(plan, data, 1, 8)
    assert f"one epoch takes about {math.ceil(training / 8):.1f} minutes" in caplog.text


def test_the_random_changes_are_timed_on_what_they_are_given(symmetric):
    """Parts of a large image are cut out of the whole of it."""
    given = []
    data = changed(symmetric, (400, 400, 300), (0.5, 0.5, 0.5), counts={"0": 10**7, "1": 400})
    plan = plan_for(data, cost=lambda patch, shape: given.append((patch["spatial_size"], shape)) or FAST)
    size, shape = given[-1]
    assert shape == prepared_shape(plan, data).tolist() and np.prod(shape) > 2 * np.prod(size)


def test_what_even_the_smallest_plan_takes_too_much_of_is_said(small, caplog):
    caplog.set_level(logging.WARNING)
    plan_for(small)
    assert not caplog.messages
    plan_for(small, minutes=0.1, memory=2, cost=lambda patch, shape: Cost(12.0, 1.0, 3.5))
    few, much = caplog.messages
    assert few.startswith("one epoch takes about 2.0 minutes, and 0.1 were given")
    assert much.startswith("a step takes 3.5 GiB, and 2 were given")


def test_both_hands_have_mirror_images(symmetric):
    settings = plan_for(symmetric).settings
    assert (settings["flip_probability"], settings["mirror_axes"]) == (0.5, [0])


def test_large_images_are_resized_and_their_rim_is_cut_off(symmetric):
    plan = plan_for(changed(symmetric, (256, 256, 40), (0.6, 0.6, 3.6)))
    settings = plan.settings
    names = [step["_target_"] for step in settings["deterministic_chain"]]
    assert names.index("CenterScaleCropd") < names.index("Resized") and "window_size" not in settings
    assert settings["kept_share"][1] < 1 and "all classes lie at" in plan.reasons["kept_share"]
    affine = next(step for step in settings["random_chain"] if name_of(step) == "RandAffined")
    assert affine["rotate_range"] == "$[@rotate_range * share for share in [0.2, 0.2, 1.0]]"


def test_a_tiny_class_gets_finer_voxels_and_parts_chosen_by_class(symmetric):
    few = {"counts": {"0": 10**7, "1": 400}}
    plan = plan_for(changed(symmetric, (400, 400, 300), (0.5, 0.5, 0.5), **few))
    settings = plan.settings
    assert settings["window_size"] == settings["spatial_size"]
    assert all(0.5 <= side < 0.9 for side in settings["voxel_size"]) and "voxels across" in plan.reasons["voxel_size"]
    names = [step["_target_"] for step in settings["deterministic_chain"]]
    assert names.index("Spacingd") < names.index("SpatialPadd")
    assert "RandCropByLabelClassesd" in [name_of(step) for step in settings["random_chain"]]


def test_pictures_get_two_dimensions(symmetric):
    plan = plan_for(changed(symmetric, (96, 96, 1), (1, 1, 1)))
    assert plan.settings["spatial_dims"] == 2 and plan.settings["spatial_size"] == [96, 96]


def test_fewer_minutes_get_a_coarser_grid_and_never_more_time(symmetric):
    data = changed(symmetric, (256, 256, 64), (1, 1, 1))

    def cost(patch, shape) -> Cost:
        return Cost(step=5e-8 * float(np.prod(patch["spatial_size"])) * patch["features"], scoring=0.1, gib=1)

    plans = [plan_for(data, minutes, cost=cost) for minutes in (2, 15, 30, 90)]
    voxels = [np.prod(plan.settings["spatial_size"]) for plan in plans]
    assert voxels == sorted(voxels) and len(set(voxels)) >= 3
    for plan, minutes in zip(plans, (2, 15, 30, 90)):
        assert plan.steps * plan.cost.step <= 60 * minutes and plan.steps <= MOST_STEPS + 20
    assert plans[-1].steps >= ENOUGH_STEPS and plans[-1].settings["features"] == 16


def test_memory_is_kept_to(symmetric):
    data = changed(symmetric, (256, 256, 64), (1, 1, 1))

    def cost(patch, shape) -> Cost:
        return Cost(1e-4, 1e-4, gib=3e-6 * float(np.prod(patch["spatial_size"])))

    large, less = (plan_for(data, memory=memory, cost=cost).settings for memory in (8, 1))
    assert np.prod(less["spatial_size"]) < np.prod(large["spatial_size"]) and "cache" not in large
    many = replace(data, images=[*data.images] * 500)  # their images go to disk, whatever the size
    settings = plan_for(many, cost=cost).settings
    assert settings["spatial_size"] == large["spatial_size"] and settings["cache"] == "disk"
    plan = plan_for(data, memory=0.005)
    assert plan.settings["cache"] == "disk" and "were given" in plan.reasons["cache"]


def test_a_size_that_runs_out_of_memory_is_left_for_a_smaller_one(symmetric):
    data, endless = changed(symmetric, (256, 256, 64), (1, 1, 1)), Cost(math.inf, math.inf, math.inf)
    settings = plan_for(
        data, cost=lambda patch, shape: FAST if np.prod(patch["spatial_size"]) < 5e5 else endless
    ).settings
    assert np.prod(settings["spatial_size"]) < 5e5
    assert "fits into the memory of this machine" in refusal(plan_for, data, cost=lambda patch, shape: endless)


def test_windows_of_an_image_count_in_time_and_memory(symmetric):
    """Images of 120 mm at 0.5 mm, a tiny class: an image is many windows."""
    few = {"counts": {"0": 10**7, "1": 400}}
    data = changed(symmetric, (400, 400, 300), (0.5, 0.5, 0.5), **few)
    plan = plan_for(data)
    shape, size = prepared_shape(plan, data), np.array(plan.settings["window_size"])
    assert windows(plan, data) == np.prod(np.ceil(2 * (shape - size) / size) + 1) > 8
    assert cached_gib(plan, data) == pytest.approx(len(data.images) * np.prod(shape) * 5 / 2**30)
    slow = plan_for(data, cost=lambda patch, shape: Cost(step=0.5, scoring=0.5, gib=0.1))
    quick = plan_for(data, cost=lambda patch, shape: Cost(step=0.5, scoring=0.0, gib=0.1))
    assert slow.steps < quick.steps


def test_without_labels_there_is_no_plan(small):
    data = Fingerprint(small.images, [], small.class_names, small.patients, sliced=False)
    assert "a plan looks at labelled cases" in refusal(plan_for, data)


@pytest.mark.parametrize("base", [("train",), ("train", "evaluate"), ("inference",)])
@pytest.mark.parametrize("shape", [(30, 34, 28), (200, 200, 40), (96, 96, 1)])
def test_the_chains_can_be_built_on_every_configuration(symmetric, base, shape):
    plan = plan_for(changed(symmetric, shape, (1, 1, 1)))
    made = ConfigParser()
    made.read_config([str(CONFIGS / f"{name}.json") for name in base])
    made.update(plan.settings)
    if "train" in base:
        made["train::dataloader"] = [0]
    names = ["deterministic_chain", "plain_inferer", "network_def", "single_piece"]
    for name in names + (["random_chain", "optimizer", "lr_scheduler", "averaging"] if base == ("train",) else []):
        assert made.get_parsed_content(name) is not None
    assert Compose(made.get_parsed_content("deterministic_chain")).transforms


@pytest.mark.parametrize("shape", [(30, 34, 28), (200, 200, 40), (96, 96, 1)])
def test_every_random_change_can_be_made(symmetric, shape):
    """Each is made by chance, some of them seldom: here all are."""
    settings = plan_for(changed(symmetric, shape, (1, 1, 1))).settings
    made = ConfigParser()
    made.read_config(str(CONFIGS / "train.json"))
    made.update(json.loads(re.sub(r'"prob": [\d.]+', '"prob": 1.0', json.dumps(settings))))
    made.update({"affine_probability": 1.0, "flip_probability": 1.0, "train::dataloader": [0]})
    size = [*settings["spatial_size"], 1][:3]
    sample = {"image": torch.rand(1, *size), "label": (torch.rand(1, *size) > 0.5).to(torch.uint8)}
    changed_sample = Compose(made.get_parsed_content("random_chain"))(sample)
    assert list(changed_sample["image"].shape) == [1, *settings["spatial_size"]] == list(changed_sample["label"].shape)
    assert not torch.equal(changed_sample["image"].flatten(), sample["image"].flatten())


def test_affordable_epochs():
    cost = Cost(step=1.0, scoring=0.5, gib=0)
    assert affordable(cost, minutes=60, training=100, validation=0, share=1.0) == 36
    assert affordable(cost, minutes=60, training=100, validation=40, share=1.0) == 28  # less 20 + 20 times 20 s
    assert affordable(cost, minutes=60, training=400, validation=40, share=1.0) == 7  # each of which is validated
    assert affordable(cost, minutes=0.01, training=100, validation=0) == 1
