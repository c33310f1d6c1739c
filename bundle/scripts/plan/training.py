"""Chooses how a plan trains: optimiser, split, random changes of the images, and what is done to predictions."""

import numpy as np

from scripts.check import nature
from scripts.plan import chains, sizes
from scripts.plan.fingerprint import USUALLY, Fingerprint
from scripts.plan.settings import Plan, numbers

ROTATION_OF_PICTURES = 0.5  # radians; of volumes that of strong.json
RARE = 0.005  # share of the voxels below which parts of images are chosen by class
FEW_CASES = 100  # with fewer, images are changed more often and more
FOLDS = 5
FEW, MANY = 60, 200  # patients: fewer want folds, of more a tenth is enough to validate


def choose_training(plan: Plan, found: Fingerprint) -> None:
    """The optimiser and its schedule are those of strong.json; the split depends on the number of patients."""
    pictures = plan.settings.get("spatial_dims") == 2
    strong = chains.shipped("strong")
    plan.settings |= {name: v for name, v in strong.items() if name != "random_chain" and not name.startswith("_")}
    plan.reasons["learning_rate"] = "From here to lr_scheduler: configs/strong.json, for short, well used trainings."
    plan.choose("ce_weight", 1.0, "As much cross-entropy as Dice.")
    single = "In the same time, single cases gained more than pairs."
    plan.choose("batch_size", 8 if pictures else 1, "Pictures are small." if pictures else single)
    plan.choose("keep_last", True, "The weights are averaged, so no epoch has to be chosen.")
    plan.choose("num_workers", 0, "Prepared images are read quickly, from memory or from the disk.")
    if found.listed:  # the datalist has the split
        if found.listed.fold is not None:
            plan.choose("fold", found.listed.fold, "The first of the folds of the datalist; train the others too.")
    elif found.patients < FEW:
        folds = min(FOLDS, found.patients)
        reason = (
            f"{found.patients} patients are too few to set some aside. Train --fold 0 to {folds - 1}, and score each "
        )
        plan.choose("folds", folds, reason + "on the patients that it has not seen (--split validation).")
        plan.choose("fold", 0)
        plan.choose("test_share", 0.0)
    elif found.patients > MANY:
        plan.choose("validation_share", 0.1, f"Of {found.patients} patients; as many are kept to test.")
        plan.choose("test_share", 0.1)


def choose_augmentation(plan: Plan, found: Fingerprint, sides: np.ndarray) -> None:
    """Random changes are those of strong.json, with rotations and mirror images that fit the data.

    Args:
        plan: receives the settings.
        found: what the data are like.
        sides: of the voxels that the network sees, in mm.
    """
    pictures = plan.settings.get("spatial_dims") == 2
    measured = ", ".join(f"{float(np.median(values)):.2f} for {name}" for name, values in found.hands.items())
    measured = f"(a case is more like the others than like their mirror images by {measured})"
    if found.one_hand:
        plan.choose("flip_probability", 0, f"No case is a mirror image of another {measured}.")
        plan.choose("mirror_axes", [])
    else:
        reason = "Mirror images are as likely as the images"
        if not found.enough_for_hand:
            reason = f"Fewer than {nature.ENOUGH} cases do not tell whether mirror images occur; say 0 if not"
        plan.choose("flip_probability", 0.5, f"{reason} {measured}.")
        plan.choose("mirror_axes", [0], "At evaluation and inference; [] takes half the time.")
    if pictures:
        plan.choose("rotate_range", ROTATION_OF_PICTURES)
    few = len(found.labels) < FEW_CASES and not pictures
    if few:
        plan.choose(
            "affine_probability", 0.7, f"{len(found.labels)} cases are few: they are changed more often and more."
        )
        plan.choose("scale_range", 0.25)
    by_class = "voxel_size" in plan.settings and min(found.shares.values()) < RARE
    reason = f"As in configs/strong.json; rotations fit voxels of {numbers(sides)} mm"
    reason += ", and parts are chosen so that each class is in as many of them." if by_class else "."
    chain = chains.augmentation(sizes.rotation_shares(sides), pictures, by_class)
    plan.choose("random_chain", chain, reason)
    plan.choose("early_changes", chains.early_changes(pictures, coil=few))


def choose_pieces(plan: Plan, found: Fingerprint) -> None:
    """The classes that are one piece in the label maps are so in predictions."""
    single = [name for name, share in found.single.items() if share >= USUALLY]
    shown = ", ".join(f"{name} {share:.0%}" for name, share in found.single.items())
    plan.choose("single_piece", single, f"Classes that are one piece in nearly all label maps ({shown}).")
    plan.choose("keep_largest", bool(single), "Smaller pieces of them are taken away at evaluation and inference.")
