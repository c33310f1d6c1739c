"""Chooses what the network sees at once, and the chain that makes it: a grid over the image, or parts of it."""

import numpy as np

from scripts.plan import chains, sizes
from scripts.plan.fingerprint import Fingerprint
from scripts.plan.settings import Plan, numbers

FINEST = 128 * 128 * 64  # voxels that a network sees at once, those of train.json
TINY = 10  # voxels across a class, below which the whole image at once is too coarse
ACROSS = 16  # voxels across it that are aimed at then


def choose_grid(plan: Plan, found: Fingerprint, share: float) -> np.ndarray:
    """Chooses the settings of the grid.

    Args:
        plan: receives them.
        found: what the data are like.
        share: of the voxels of the finest grid.

    Returns:
        The sides of a voxel in mm.
    """
    if (found.shapes[:, 2] == 1).all():
        return choose_pictures(plan, found, share)
    if np.prod(found.shapes, axis=1).max() <= sizes.SMALL and not found.spacing_changes:
        return choose_parts_of_small(plan, found)
    kept = choose_part(plan, found)
    shape = found.shape * kept
    extent = shape * found.spacing
    finest = sizes.many_slices(shape, found.spacing, found.shapes * kept)
    size = sizes.fitting_sizes(finest, extent / finest, share * min(FINEST, float(np.prod(finest))))
    sides = sizes.voxel_sides(extent, size)
    name, across = smallest_class(found, kept, size)
    if across < TINY and (sides > 1.2 * found.spacing).any():
        finer = np.maximum(found.spacing, sides * across / ACROSS)
        return choose_parts_of_large(plan, kept, size, finer, f"{name} would be {across:.0f} voxels across")
    reason = (
        f"Every image is resized to it. The median image has {numbers(shape)} voxels of {numbers(found.spacing)} mm"
    )
    reason += " in the part that is kept" if (kept < 1).any() else ""
    if (finest > shape).any():
        reason += f", and one in ten has {finest.max(where=finest > shape, initial=0):.3g} slices or more"
    plan.choose("spatial_size", size, f"{reason}; these have {numbers(sides)} mm.")
    plan.choose("levels", sizes.levels_of(size))
    plan.choose("deterministic_chain", chains.resizing(crop=bool((kept < 1).any())))
    return sides


def choose_part(plan: Plan, found: Fingerprint) -> np.ndarray:
    """Chooses the share of the extent along each axis that is kept."""
    kept = np.array(sizes.kept_share(found.box))
    if found.box is not None and (kept < 1).any():
        places = ", ".join(f"{100 * low:.0f} to {high:.0%}" for low, high in found.box.T)
        reason = f"Along R, A and S, around the middle: all classes lie at {places} of the extent; "
        reason += f"{sizes.MARGIN:.0%} is added on both sides, since another patient may lie elsewhere."
        plan.choose("kept_share", kept.tolist(), reason)
    return kept


def choose_parts_of_small(plan: Plan, found: Fingerprint) -> np.ndarray:
    """Small images keep their voxels; training sees parts that are nearly whole."""
    size = sizes.rounded(found.shape, up=True)
    multiple = 2 ** (sizes.levels_of(size) - 1)
    reason = f"Parts that training sees. The images are small, {numbers(found.shape)} voxels in the median, and their "
    plan.choose("spatial_size", size, reason + "voxels are alike, so nothing is resized.")
    choose_windows(plan, size, "Smaller images are padded to it; of larger ones several are put together.")
    plan.choose("overhang", multiple // 2)
    plan.choose("deterministic_chain", chains.keeping_size(crop=False, resample=False))
    return found.spacing


def choose_parts_of_large(plan: Plan, kept: np.ndarray, size: list[int], sides: np.ndarray, why: str) -> np.ndarray:
    """Voxels stay fine enough for a class that would be lost in a grid over the whole image."""
    reason = f"In mm; all images are resampled to it. On a grid over the whole image, {why}."
    plan.choose("voxel_size", [round(float(side), 3) for side in sides], reason)
    plan.choose("spatial_size", size, "Parts that training sees.")
    choose_windows(plan, size, "Images are segmented in windows of it.")
    plan.choose("deterministic_chain", chains.keeping_size(crop=bool((kept < 1).any()), resample=True))
    return sides


def choose_windows(plan: Plan, size: list[int], reason: str) -> None:
    """Images are segmented in windows, as those of the hippocampus are."""
    plan.choose("window_size", size, reason)
    plan.choose("levels", sizes.levels_of(plan.settings["spatial_size"]))
    plan.choose("plain_inferer", chains.shipped("recipe_hippocampus")["plain_inferer"])


def choose_pictures(plan: Plan, found: Fingerprint, share: float) -> np.ndarray:
    """Single pictures get a network of two dimensions."""
    shape, sides = found.shape[:2], found.spacing[:2]
    size = sizes.fitting_sizes(shape, sides, share * min(FINEST, float(np.prod(shape))))
    plan.choose("spatial_dims", 2, "Every image is a single picture.")
    alike = (found.shapes[:, :2] == size).all()
    reason = f"Every picture is resized to it; the median one has {numbers(shape)} pixels."
    reason = "All pictures have it." if alike else reason
    plan.choose("spatial_size", size, reason)
    plan.choose("levels", sizes.levels_of(size))
    hearts = chains.shipped("recipe_cardiac_2d")
    plan.settings |= {name: hearts[name] for name in ("deterministic_chain", "plain_inferer")}
    return np.append(sizes.voxel_sides(shape * sides, size), 1.0)


def smallest_class(found: Fingerprint, kept: np.ndarray, size: list[int]) -> tuple[str, float]:
    """The class with the fewest voxels on a grid over the whole image, and how many it is across."""
    name = min(found.shares, key=lambda name: found.shares[name])
    return name, float(np.cbrt(found.shares[name] / np.prod(kept) * np.prod(size)))
