"""Finds scans that are stored slice by slice: HipMRI's 2D folders, folders of PNG pictures, or one folder per patient.

`layouts.py` uses it.
"""

import re
from pathlib import Path

from scripts.data.pairing import match
from scripts.data.slices import is_picture, is_sliced

SPLIT_PREFIXES = {  # beginning of a folder's name: its split
    "train": "training",
    "val": "validation",
    "test": "test",
}
EXPECTED = (
    "keras_slices_*/ with keras_slices_seg_*/, image/ with mask/ (PNG), "
    "one folder per patient with NAME_1.tif and NAME_1_mask.tif"
)


def find_slices(root: Path, by_slice: bool = False, unlabelled: bool = False) -> list[dict] | None:
    """Finds scans with their labels.

    Args:
        root: the folder.
        by_slice: treat every slice as a scan and a patient of its own. Neighbouring slices are much alike, so a split
            made of them serves only to measure the effect of this leak.
        unlabelled: masks may be missing everywhere, not only those of a test folder without any; earlier results are
            passed over.

    Returns:
        Entries of `image`, `split` (None if folders don't divide the data) and, if there is one, `label`. None if the
        folder contains no slices in a known layout.

    Raises:
        UserError: a slice without its mask, or a mask without its slice.
    """
    pairs = (
        keras_slice_pairs(root, unlabelled) or picture_pairs(root, unlabelled) or patient_folder_pairs(root, unlabelled)
    )
    if not pairs:
        return None
    scans: dict[tuple, dict] = {}
    for image, label, split in pairs:
        if unlabelled and is_label(image):
            continue
        name = image if by_slice else stack_pattern(image)
        entry = scans.setdefault((name, split), {"image": name.relative_to(root).as_posix(), "split": split})
        if label:
            entry["label"] = (label if by_slice else stack_pattern(label)).relative_to(root).as_posix()
    return list(scans.values())


def find_slice_images(root: Path) -> list[Path]:
    """Finds the images to segment, one path for each stack. Masks and earlier results are left out."""
    inside = sorted(path for path in root.rglob("*") if path.is_file() and is_sliced(path) and not is_label(path))
    chosen = [path for path in inside if not is_picture(path)] or inside  # a picture beside NIfTI slices is none
    tests = [path for path in chosen if split_from_folders(path.parent, root) == "test"]
    return list(dict.fromkeys(stack_pattern(path) for path in tests or chosen))


def is_label(path: Path) -> bool:
    """Returns whether the name or the folder of a file is that of a mask, a result or an overlay."""
    name = path.name.lower()
    return (
        name.startswith((".", "seg_"))
        or re.search(r"(_mask|_seg|_doubt|_overlay)\.", name) is not None
        or path.parent.name in ("mask", "masks")
    )


def stack_pattern(path: Path) -> Path:
    """Replaces the number of a slice by *. A name without a slice number, such as `cmr12.png`, stays as it is."""
    name = re.sub(r"(?<=slice_)\d+", "*", path.name)
    if name == path.name and path.suffix.lower().startswith(".tif"):
        name = re.sub(r"(?<=_)\d+(?=(_mask)?\.tiff?$)", "*", path.name, flags=re.IGNORECASE)
    return path.with_name(name)


def keras_slice_pairs(root: Path, unlabelled: bool = False) -> list[tuple]:
    """Pairs `keras_slices_train/case_004_week_0_slice_0.nii.gz` with `keras_slices_seg_train/seg_004_...` and so on."""
    found = []
    for folder in sorted(path for path in (*root.glob("keras_slices_*"), *root.glob("*/keras_slices_*"))):
        part = folder.name.removeprefix("keras_slices_")
        if folder.is_dir() and not part.startswith("seg"):
            masks = slices_by_key(folder.with_name(f"keras_slices_seg_{part}"), lambda name: name.removeprefix("seg_"))
            images = slices_by_key(folder, lambda name: name.removeprefix("case_"))
            found += [(*pair, split_from_name(part)) for pair in match(images, masks, unlabelled)]
    return found


def picture_pairs(root: Path, unlabelled: bool = False) -> list[tuple]:
    """Pairs `image/cmr1.png` with `mask/cmr1_mask.png`, in one folder or in one for each split."""
    found = []
    for folder in sorted(path for path in (root / "image", *root.glob("*/image")) if path.is_dir()):
        split = split_from_folders(folder, root)
        masks = slices_by_key(folder.with_name("mask"), lambda name: re.sub(r"_mask(?=\.)", "", name))
        pairs = match(slices_by_key(folder, str), masks, unlabelled or (split == "test" and not masks))
        found += [(*pair, split) for pair in pairs]
    return found


def patient_folder_pairs(root: Path, unlabelled: bool = False) -> list[tuple]:
    """Pairs `PATIENT/PATIENT_1.tif` with `PATIENT/PATIENT_1_mask.tif`."""
    inside = [path for path in root.rglob("*") if is_picture(path)]
    if not any(map(is_label, inside)):
        return []
    found = []
    for folder in sorted({path.parent for path in inside}):
        slices = slices_by_key(folder, str)
        marked = {re.sub(r"_mask(?=\.)", "", name): path for name, path in slices.items() if is_label(path)}
        images = {name: path for name, path in slices.items() if not is_label(path)}
        found += [(*pair, None) for pair in match(images, marked, unlabelled)]
    return found


def split_from_name(name: str) -> str | None:
    """Returns the split that a folder is named after, or None."""
    return next((split for start, split in SPLIT_PREFIXES.items() if name.lower().startswith(start)), None)


def split_from_folders(folder: Path, root: Path) -> str | None:
    """Returns the split that one of the folders below `root` is named after, or None."""
    names = [part.removeprefix("keras_slices_") for part in folder.relative_to(root).parts]
    return next((split for split in map(split_from_name, names) if split), None)


def slices_by_key(folder: Path, key) -> dict[str, Path]:
    """Returns the slices of a folder by the part of the name that image and mask share."""
    if not folder.is_dir():
        return {}
    inside = sorted(path for path in folder.iterdir() if path.is_file() and is_sliced(path))
    return {key(path.name): path for path in inside if not path.name.startswith(".")}
