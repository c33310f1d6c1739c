"""Decathlon's layout: the list in dataset.json, its classes, and nnU-Net's channel numbers. `layouts.py` uses it."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.data.folders import nifti_files
from scripts.data.names import case_name
from scripts.data.pairing import Pair

IMAGES, LABELS = ("imagesTs", "imagesTr"), ("labelsTr", "labelsTs")  # folders
CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's, at the end of a name


def dataset_description(dataset_dir: str | Path) -> str:
    """Returns the description in the folder's JSON file, or its name. It is kept with the weights."""
    root = Path(dataset_dir)
    for name in ("phantom.json", "dataset.json"):
        described = read_json(root / name) if (root / name).is_file() else {}
        if described.get("description") or described.get("name"):
            return str(described.get("description") or described["name"])
    return root.resolve().name


def dataset_classes(dataset_dir: str | Path) -> list[str] | None:
    """Returns the class names in a dataset.json (name by value, or value by name), or None if there are none."""
    path = Path(dataset_dir) / "dataset.json"
    labels = read_json(path).get("labels") if path.is_file() else None
    if not isinstance(labels, dict) or not labels:
        return None
    by_value = {int(k): v for k, v in labels.items()} if all(k.isdigit() for k in labels) else None
    if by_value is None and all(isinstance(v, int) for v in labels.values()):
        by_value = {v: k for k, v in labels.items()}
        if "ignore" in labels:  # nnU-Net's word for voxels that nobody has labelled
            raise UserError(
                f"{path}: found the label ignore, expected classes alone, as a training leaves no voxel out; give "
                f"these voxels (value {labels['ignore']}) another label, and take the name out of the file"
            )
    return [by_value[value] for value in sorted(by_value)] if by_value else None


def listed_pairs(root: Path, unlabelled: bool = False) -> list[tuple[Path, Path]] | None:
    """Returns the pairs that a dataset.json lists, or None if it lists none. If `unlabelled`, labels may be missing."""
    path = root / "dataset.json"
    training = read_json(path).get("training") if path.is_file() else None
    if not isinstance(training, list) or not training:
        return None
    pairs = []
    for entry in training:
        files = [entry.get(key) for key in ("image", "label")] if isinstance(entry, dict) else [None]
        if not all(isinstance(file, str) and is_inside(root / file, root) for file in files):
            raise UserError(
                f"{path}: found {entry!r} under training, expected image and label, each a file in this folder; fix it"
            )
        image, label = first_channel(root / entry["image"]), root / entry["label"]
        for file in (image, label):
            if not file.is_file() and not (unlabelled and file == label):
                raise UserError(f"{file}: listed in {path}, but no such file; add it or remove it from the list")
        pairs.append((image, label))
    return pairs


def is_inside(file: Path, folder: Path) -> bool:
    """Whether a path is one of a folder by its name; links may lead elsewhere."""
    return Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder))


def with_unlisted(listed: Sequence[tuple[Path, Path]], found: Iterable[Path]) -> list[Pair]:
    """Adds the images that a list leaves out: neither one of its files, nor in a folder of its labels alone. A label
    that is not there yet is left out."""
    images, labels = zip(*listed)
    folders = {label.parent for label in labels} - {image.parent for image in images}
    others = [path for path in found if path not in {*images, *labels} and path.parent not in folders]
    refuse_second_channels(others)
    return [(image, label if label.is_file() else None) for image, label in listed] + [(path, None) for path in others]


def key_of_label(path: Path, labels: dict[str, Path]) -> str:
    """Returns the name of the label: that of the image, or this without nnU-Net's channel number (`_0000`). It refuses
    a second channel."""
    name = case_name(path)
    if not CHANNEL.search(name) or name in labels or name[:-5] not in labels:
        return name
    refuse_second_channel(path)
    return name[:-5]


def refuse_second_channel(path: Path) -> None:
    """Refuses an image with a channel number above 0, where the first channel lies beside it."""
    name = case_name(path)
    first = path.with_name(CHANNEL.sub("_0000", name) + path.name[len(name) :])
    if first != path and first.exists():
        raise UserError(f"{path}: found a second channel, expected images of one channel; keep the _0000 files only")


def refuse_second_channels(images: Sequence[Path]) -> None:
    """Refuses a second channel among images without a label. Where a label beside them has such a number as well, it is
    the case's own."""
    for folder in {image.parent for image in images if image.parent.name in IMAGES}:
        labels = map(case_name, nifti_files(folder.with_name(name) for name in LABELS))
        numbered = {name[:-5] for name in labels if CHANNEL.search(name)}
        for image in images:
            if image.parent == folder and case_name(image)[:-5] not in numbered:
                refuse_second_channel(image)


def first_channel(image: Path) -> Path:
    """Returns an image that a list names, or where only files with nnU-Net's channel number are there, the first."""
    first, second = (image.with_name(re.sub(r"(?=\.nii(\.gz)?$)", end, image.name)) for end in ("_0000", "_0001"))
    if image.exists() or not first.exists():
        return image
    if second.exists():
        key_of_label(second, {case_name(image): image})  # refuses it
    return first
