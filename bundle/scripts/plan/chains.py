"""The steps of a plan: those of the shipped configurations, changed by name."""

from collections.abc import Mapping

from scripts.core.files import read_json
from scripts.core.paths import CONFIGS

PAIR = ["image", "label"]
ANY = {"keys": "@chain_keys", "allow_missing_keys": True}
CROP = {"_target_": "CenterScaleCropd", "roi_scale": "@kept_share", **ANY}
CLIP = {"_target_": "ClipIntensityPercentilesd", "keys": "image", "lower": 0.5, "upper": 99.5}
COIL: list[dict] = [  # brightness that changes across the image, as near a coil; the field is made for positive values
    {"_target_": "ScaleIntensityd", "keys": "image"},
    {"_target_": "RandBiasFieldd", "keys": "image", "degree": 3, "coeff_range": [-0.3, 0.3], "prob": 0.3},
    {"_target_": "NormalizeIntensityd", "keys": "image"},
]
SPACING = {"_target_": "Spacingd", "pixdim": "@voxel_size", "mode": "bilinear", **ANY}
ONE_HOT = {"_target_": "AsDiscreted", "keys": "label", "to_onehot": "$len(@class_names)", "allow_missing_keys": True}
LARGEST = {"_target_": "AsDiscreted", "keys": "label", "argmax": True, "allow_missing_keys": True}
BY_CLASS = {
    "_target_": "RandCropByLabelClassesd", "keys": PAIR, "label_key": "label", "spatial_size": "@spatial_size",
    "num_classes": "$len(@class_names)", "num_samples": 1, "warn": False, "allow_smaller": True,
}  # fmt: skip
TO_PICTURES = [
    {"_target_": "EnsureTyped", "keys": PAIR, "track_meta": False},
    {"_target_": "SqueezeDimd", "keys": PAIR, "dim": -1},
]


def shipped(name: str) -> dict:
    """A configuration of the bundle."""
    return read_json(CONFIGS / f"{name}.json")


def resizing(crop: bool) -> list[dict]:
    """The chain that makes every image the same size: that of train.json, without the most extreme values.

    Args:
        crop: whether the rim is cut off before.
    """
    chain = insert(shipped("train")["deterministic_chain"], "Resized", [CLIP])
    return insert(chain, "Orientationd", [CROP]) if crop else chain


def keeping_size(crop: bool, resample: bool) -> list[dict]:
    """The chain for networks that see parts of an image: that of the hippocampus.

    Args:
        crop: whether the rim is cut off before.
        resample: whether voxels are made equal.
    """
    chain = shipped("recipe_hippocampus")["deterministic_chain"]
    new = [CROP] if crop else []
    new += [ONE_HOT, SPACING, LARGEST] if resample else []
    return insert(chain, "AsDiscreted", new)


def augmentation(rotate: list[float], pictures: bool, by_class: bool) -> list:
    """The random chain of strong.json.

    Args:
        rotate: the share of the largest rotation around each axis.
        pictures: whether images are single pictures.
        by_class: whether parts are chosen so that every class is in as many of them.
    """
    chain = shipped("strong")["random_chain"]
    affine = next(step for step in chain if name_of(step) == "RandAffined")
    if min(rotate) < 1:
        affine["rotate_range"] = f"$[@rotate_range * share for share in {rotate}]"
    if pictures:
        affine |= {"rotate_range": "@rotate_range", "scale_range": "$[@scale_range] * 2"}
        chain = [*TO_PICTURES, *chain[:-1]]
    return replace(chain, "RandSpatialCropd", BY_CLASS) if by_class else chain


def early_changes(pictures: bool, coil: bool) -> dict:
    """The changes of strong.json that the last epochs do without.

    Args:
        pictures: whether images are single pictures.
        coil: whether the brightness changes across the image as well.
    """
    changes = shipped("strong")["early_changes"]
    if pictures:
        steps = {name_of(step): step for step in changes["transforms"]}
        del steps["RandGaussianSmoothd"]["sigma_z"]
        steps["RandSimulateLowResolutiond"]["upsample_mode"] = "bilinear"
    return changes | {"transforms": (COIL if coil else []) + changes["transforms"]}


def name_of(step: dict | str) -> str:
    """The name of a step, or the id of one that stands elsewhere."""
    return step if isinstance(step, str) else step["_target_"]


def insert(chain: list, after: str, steps: list[dict]) -> list:
    """A chain with more steps behind the first one of a name."""
    place = next(i for i, step in enumerate(chain) if name_of(step) == after) + 1
    return chain[:place] + steps + chain[place:]


def replace(chain: list, name: str, new: Mapping) -> list:
    """A chain with another step in place of that of a name."""
    return [dict(new) if name_of(step) == name else step for step in chain]
