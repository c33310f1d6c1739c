"""Makes a plan: sizes are tried on this machine, the finest first, until enough steps of training fit into the
minutes and the memory that were given."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from scripts.core.errors import UserError
from scripts.core.hardware import supports_bfloat16
from scripts.plan import chains
from scripts.plan.fingerprint import Fingerprint
from scripts.plan.grid import choose_grid
from scripts.plan.settings import Plan
from scripts.plan.timing import VALIDATIONS, Cost, affordable
from scripts.plan.training import choose_augmentation, choose_pieces, choose_training

logger = logging.getLogger(__name__)

ENOUGH_STEPS = 4000  # the hippocampus has 4680
MOST_STEPS = 12000
SIZES = ((1.0, 16), (0.7, 16), (0.5, 16), (0.35, 16), (0.5, 8), (0.3, 8))  # share of the finest grid, and the width
FASTER = 0.95  # of the seconds of a step, at most, where float32 is faster than bfloat16
BYTES_A_VALUE = 4  # of a cached image; its label has 1


def make_plan(found: Fingerprint, minutes: float, memory: float, measure: Callable[[Mapping, Sequence], Cost]) -> Plan:
    """Chooses all settings.

    Args:
        found: what the data are like.
        minutes: that a training may take on this machine.
        memory: GiB that it may take.
        measure: times a patch on images of a shape, see `scripts.plan.timing.measure`.
    """
    if found.box is None or not found.shares:
        raise UserError(
            f"found no class in {len(found.labels)} label maps, expected values from 1 to 63: a plan looks at "
            "labelled cases"
        )
    plan, tried, whole = Plan(), [], None
    for share, width in SIZES:
        made = draft(found, share, width)
        looks = (made.settings["spatial_size"], width)
        if looks in tried:
            continue
        plan = made
        tried.append(looks)
        if whole:
            plan.choose("half", False, whole)
        shape = [int(size) for size in prepared_shape(plan, found)]
        plan.cost = measure(plan.settings, shape)
        if whole is None and np.isfinite(plan.cost.step):
            whole = choose_precision(plan, measure, shape)
        choose_length(plan, found, minutes)
        shown = " x ".join(map(str, plan.settings["spatial_size"]))
        logger.info(f"tried: {shown}, width {width}: {plan.cost.step:.2f} s a step, {plan.steps} steps")
        enough = plan.steps >= ENOUGH_STEPS and plan.cost.step * plan.steps <= 60 * minutes
        if enough and plan.cost.gib <= memory:
            break
    if not np.isfinite(plan.cost.gib):
        raise UserError(f"no step of {shown} and width {width} fits into the memory of this machine; free some of it")
    if not enough:
        reason = f"Channels of the first level. The smallest size was taken: of no size did {ENOUGH_STEPS} steps fit."
        plan.choose("features", plan.settings["features"], reason)
    choose_memory(plan, found, memory)
    say_what_is_too_much(plan, found, minutes, memory)
    return plan


def choose_precision(plan: Plan, measure: Callable[[Mapping, Sequence], Cost], shape: Sequence[int]) -> str:
    """Takes float32 where the processor has bfloat16, but is slower with it, as some are. Returns the reason, or ""."""
    if torch.cuda.is_available() or not supports_bfloat16("cpu"):
        return ""
    cost = measure(plan.settings | {"half": False}, shape)
    if cost.step > FASTER * plan.cost.step:
        return ""
    reason = f"At the first size a step takes {cost.step:.2f} s in float32 here, {plan.cost.step:.2f} s in bfloat16."
    plan.choose("half", False, reason)
    plan.cost = cost
    return reason


def say_what_is_too_much(plan: Plan, found: Fingerprint, minutes: float, memory: float) -> None:
    """Says where even the smallest plan takes more than was given."""
    needed = plan.cost.step * steps_of_epoch(plan, found) / 60
    if needed > minutes:
        logger.warning(f"one epoch takes about {needed:.1f} minutes, and {minutes:g} were given; give more --minutes")
    if plan.cost.gib > memory:
        logger.warning(f"a step takes {plan.cost.gib:.1f} GiB, and {memory:g} were given; give more with --memory")


def draft(found: Fingerprint, share: float, width: int) -> Plan:
    """A plan without its length.

    Args:
        found: what the data are like.
        share: of the voxels of the finest grid.
        width: channels of the first level.
    """
    plan = Plan()
    plan.choose("class_names", list(found.class_names))
    if found.sliced:
        plan.choose("reader", "scripts.data.slices.SliceReader", "The images are pictures.")
    if found.channels > 1:
        plan.choose("in_channels", found.channels, "Every image has so many.")
    sides = choose_grid(plan, found, share)
    reason = f"Channels of the first level. The finest grid and the widest network were taken of which {ENOUGH_STEPS} "
    plan.choose("features", width, reason + "steps fit into the time.")
    plan.choose("network_def", chains.shipped("recipe_hippocampus")["network_def"])
    plan.choose("dropout", 0.0)
    choose_training(plan, found)
    choose_augmentation(plan, found, sides)
    choose_pieces(plan, found)
    return plan


def choose_length(plan: Plan, found: Fingerprint, minutes: float) -> None:
    """Chooses the number of epochs, and how often they are validated."""
    training, validation = split_sizes(plan, found)
    steps = steps_of_epoch(plan, found)
    scored = validation * windows(plan, found)
    epochs = min(affordable(plan.cost, minutes, steps, scored), max(1, round(MOST_STEPS / steps)))
    plan.steps = epochs * steps
    reason = f"{plan.steps} steps of {plan.cost.step:.2f} s on this machine"
    plan.choose("epochs", epochs, f"{reason}, for {minutes:g} minutes; about {training} cases train.")
    plan.choose("val_interval", math.ceil(epochs / VALIDATIONS))


def steps_of_epoch(plan: Plan, found: Fingerprint) -> int:
    training, _ = split_sizes(plan, found)
    return math.ceil(training / plan.settings["batch_size"])


def split_sizes(plan: Plan, found: Fingerprint) -> tuple[int, int]:
    """About how many labelled cases are trained and validated on."""
    if found.listed:
        return max(1, found.listed.training), max(1, found.listed.validation)
    settings, count = chains.shipped("train") | plan.settings, len(found.labels)
    validation = 1 / settings["folds"] if settings["folds"] else settings["validation_share"]
    training = max(1, round(count * (1 - validation - settings["test_share"])))
    return training, max(1, round(count * validation))


def cached_gib(plan: Plan, found: Fingerprint) -> float:
    """Memory of all images, if they stay there."""
    voxels = float(np.prod(prepared_shape(plan, found)))
    return len(found.images) * voxels * (BYTES_A_VALUE * found.channels + 1) / 2**30


def prepared_shape(plan: Plan, found: Fingerprint) -> np.ndarray:
    """Voxels along each axis of the median image after the chain, before random parts are taken."""
    settings = plan.settings
    if "voxel_size" in settings:
        extent = found.shape * found.spacing * np.array(settings.get("kept_share", 1.0))
        return np.maximum(np.ceil(extent / settings["voxel_size"]), settings["window_size"])
    if "window_size" in settings:
        return np.maximum(found.shape, settings["window_size"])
    return np.array(settings["spatial_size"])


def windows(plan: Plan, found: Fingerprint) -> int:
    """How many windows an image is segmented in."""
    if "window_size" not in plan.settings:
        return 1
    size = np.array(plan.settings["window_size"])
    further = (prepared_shape(plan, found) - size) / ((1 - plan.settings["plain_inferer"]["overlap"]) * size)
    return int(np.prod(1 + np.ceil(further)))


def choose_memory(plan: Plan, found: Fingerprint, memory: float) -> None:
    """Chooses where the images are kept. On a GPU, where the memory is another one, training itself does."""
    cached = cached_gib(plan, found)
    if plan.cost.gib + cached > memory and not torch.cuda.is_available():
        reason = f"All images would take {cached:.1f} GiB beside {plan.cost.gib:.1f} of a step; {memory:g} were given."
        plan.choose("cache", "disk", reason)
