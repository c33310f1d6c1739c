"""Finds scans that lie on disk slice by slice: HipMRI's 2D folders, folders of PNG pictures, a folder a patient."""

import re
from pathlib import Path

from scripts.core.errors import UserError
from scripts.data.slices import is_picture, is_sliced

OFFICIAL = {  # how a folder that is named for a split begins, and what it is here
    "train": "training",
    "val": "validation",
    "test": "test",
}
EXPECTED = (
    "keras_slices_*/ with keras_slices_seg_*/, image/ with mask/ (PNG), "
    "a folder a patient with NAME_1.tif and NAME_1_mask.tif"
)


def find_slices(root: Path, by_slice: bool = False) -> list[dict] | None:
    """Scans with their labels, or None where the folder holds no slices in a known layout.

    Args:
        root: the folder.
        by_slice: every slice is a scan and a patient of its own. Neighbours are near copies: a split made of them
            shows what that leak is worth, and nothing else.

    Returns:
        Entries of `image`, `patient`, `week` and, where there is one, `label`; `split` where folders divide them.

    Raises:
        UserError: a slice without its mask, or a mask without its slice.
    """
    pairs = keras_slices(root) or pictures(root) or patients(root)
    if not pairs:
        return None
    scans: dict[tuple, dict] = {}
    for image, label, split in pairs:
        name = image if by_slice else stack(image)
        entry = scans.setdefault((name, split), {"image": name.relative_to(root).as_posix(), "split": split})
        if label:
            entry["label"] = (label if by_slice else stack(label)).relative_to(root).as_posix()
    return list(scans.values())


def find_slice_images(root: Path) -> list[Path]:
    """Images to be segmented, masks and earlier results left out, one path for each stack."""
    inside = sorted(path for path in root.rglob("*") if path.is_file() and is_sliced(path) and not is_label(path))
    chosen = [path for path in inside if is_picture(path)] or inside
    tests = [path for path in chosen if split_of(path.parent, root) == "test"]
    return list(dict.fromkeys(stack(path) for path in tests or chosen))


def is_label(path: Path) -> bool:
    name = path.name.lower()
    return (
        name.startswith((".", "seg_"))
        or re.search(r"(_mask|_seg|_overlay)\.", name) is not None
        or path.parent.name in ("mask", "masks")
    )


def stack(path: Path) -> Path:
    """The slice's path with * for its number; what has no number among others, as `cmr12.png`, stays as it is."""
    name = re.sub(r"(?<=slice_)\d+", "*", path.name)
    if name == path.name and path.suffix.lower().startswith(".tif"):
        name = re.sub(r"(?<=_)\d+(?=(_mask)?\.tiff?$)", "*", path.name, flags=re.IGNORECASE)
    return path.with_name(name)


def keras_slices(root: Path) -> list[tuple]:
    """`keras_slices_train/case_004_week_0_slice_0.nii.gz` with `keras_slices_seg_train/seg_004_...`, and so on."""
    found = []
    for folder in sorted(path for path in (*root.glob("keras_slices_*"), *root.glob("*/keras_slices_*"))):
        part = folder.name.removeprefix("keras_slices_")
        if folder.is_dir() and not part.startswith("seg"):
            masks = named(folder.with_name(f"keras_slices_seg_{part}"), lambda name: name.removeprefix("seg_"))
            images = named(folder, lambda name: name.removeprefix("case_"))
            found += [(*pair, split_named(part)) for pair in matched(images, masks)]
    return found


def pictures(root: Path) -> list[tuple]:
    """`image/cmr1.png` with `mask/cmr1_mask.png`, in one folder or in one for each split."""
    found = []
    for folder in sorted(path for path in (root / "image", *root.glob("*/image")) if path.is_dir()):
        split = split_of(folder, root)
        masks = named(folder.with_name("mask"), lambda name: re.sub(r"_mask(?=\.)", "", name))
        unlabelled = split == "test" and not masks
        pairs = matched(named(folder, str), masks, unlabelled)
        found += [(*pair, split) for pair in pairs]
    return found


def patients(root: Path) -> list[tuple]:
    """`PATIENT/PATIENT_1.tif` with `PATIENT/PATIENT_1_mask.tif`."""
    inside = [path for path in root.rglob("*") if is_picture(path)]
    if not any(map(is_label, inside)):
        return []
    found = []
    for folder in sorted({path.parent for path in inside}):
        files = named(folder, str)
        marked = {re.sub(r"_mask(?=\.)", "", name): path for name, path in files.items() if is_label(path)}
        images = {name: path for name, path in files.items() if not is_label(path)}
        found += [(*pair, None) for pair in matched(images, marked)]
    return found


def split_named(name: str) -> str | None:
    return next((split for start, split in OFFICIAL.items() if name.lower().startswith(start)), None)


def split_of(folder: Path, root: Path) -> str | None:
    """The split that a folder between `root` and the file is named for."""
    names = [part.removeprefix("keras_slices_") for part in folder.relative_to(root).parts]
    return next((split for split in map(split_named, names) if split), None)


def named(folder: Path, key) -> dict[str, Path]:
    """The slices of a folder by what image and mask share of their names."""
    if not folder.is_dir():
        return {}
    inside = sorted(path for path in folder.iterdir() if path.is_file() and is_sliced(path))
    return {key(path.name): path for path in inside if not path.name.startswith(".")}


def refuse_alone(images: dict, labels: dict, name: str = "mask", where: str = "") -> None:
    """Refuses by name what is left over on either side."""
    for here, there, missing in ((images, labels, name), (labels, images, "image")):
        alone = [path for key, path in here.items() if key not in there]
        if alone:
            more = f" ({len(alone) - 1} more like it)" if len(alone) > 1 else ""
            raise UserError(f"{alone[0]}: no {missing} for it{where}{more}; add it, or move the file away")


def matched(images: dict, masks: dict, unlabelled: bool = False) -> list[tuple]:
    if not unlabelled:
        refuse_alone(images, masks)
    return [(image, masks.get(key)) for key, image in images.items()]
