"""Finds images and labels in a folder: HipMRI's own layout, Decathlon's, plain files, slices, or DICOM series.

The datalist, the data check and inference use it.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.data import slice_layouts
from scripts.data.series_layouts import find_series_images, series_by_label
from scripts.data.slices import is_sliced
from scripts.series.files import is_dicom
from scripts.series.index import is_series, is_source

logger = logging.getLogger(__name__)

SCAN = re.compile(r"(?:case_|c|seg_)(\d+)_week_?(\d+)", re.IGNORECASE)  # seg_: HipMRI's masks of slices
SLICE = re.compile(r"_slice_(\d+)(?=_|$)", re.IGNORECASE)
SERIES = re.compile(r"(?P<patient>.+)_(?P<date>\d{8}|undated)_s(?P<number>\d+)")  # see scripts.series.index.name_of
MAPS = ("_seg", "_pred", "_label", "_mask")  # ends of names of label maps
DOUBT = "_doubt"
LABELS = "labels"  # a folder beside images
Pair = tuple[Path, Path | None]  # an image, and its label if it has one
EXPECTED = (
    "expected semantic_MRs*/ with semantic_labels*/ (HipMRI), imagesTr/ with labelsTr/ or a dataset.json (Decathlon), "
    f"or slices: {slice_layouts.EXPECTED}"
)


def case_name(path: str | Path) -> str:
    """Returns the file name without folder and extension; for a stack of slices also without `_slice_*`."""
    name = re.sub(r"\.(nii(\.gz)?|png|tiff?|series)$", "", Path(path).name, flags=re.IGNORECASE)
    return re.sub(r"(_slice)?_\*", "", name)


def scan_key(path: str | Path) -> tuple[str, int | None]:
    """Returns patient and week from the file name. A name made from the headers of a series has the patient; any other
    name without patient and week counts as a patient of its own."""
    name = case_name(path)
    found = SCAN.search(name)
    if found:
        return found[1].zfill(3), int(found[2])
    made = SERIES.match(name)
    return (made["patient"] if made else name), None


def slice_number(path: str | Path) -> int | None:
    """Returns the number of a slice that is a case of its own, or None for a volume or a stack."""
    found = SLICE.search(case_name(path))
    return int(found[1]) if found else None


def patient_of(entry: Mapping) -> str:
    """Returns the patient whom an entry names, who may be number 0, or else that in the name of its image."""
    named = entry.get("patient")
    return scan_key(entry["image"])[0] if named in (None, "") else str(named)


def scan_date(path: str | Path) -> str | None:
    """Returns the date of the study, as YYYYMMDD, if the name is made from the headers of a series and has one."""
    made = SERIES.match(case_name(path))
    return made["date"] if made and made["date"].isdigit() else None


def find_pairs(dataset_dir: str | Path, by_slice: bool = False) -> list[dict]:
    """Finds every image with its label, sorted by patient and week.

    Args:
        dataset_dir: folder in one of the known layouts. `X.nii/X.nii`, which some unzip tools make, counts as `X.nii`.
        by_slice: if the folder contains slices, treat each slice as a scan and a patient of its own.

    Returns:
        Entries of `image` and `label` (paths relative to `dataset_dir`), `patient` (text) and `week` (int or None).
        If folders divide slices into splits, entries have `split` too, and a test entry may lack its label.

    Raises:
        UserError: no such folder, no image in it, an image without a label or the reverse, or two scans with the same
            patient and week.
    """
    root = existing_folder(dataset_dir)
    pairs = volume_pairs(root)
    if pairs is None:
        sliced = slice_layouts.find_slices(root, by_slice)
        if sliced is None:
            raise UserError(f"{root}: {reason_nothing_found(root)}; {EXPECTED}")
        index_by_key((root / entry["image"] for entry in sliced), case_name)
        return sorted((with_patient(entry, by_slice) for entry in sliced), key=sort_key)
    if not pairs:
        raise UserError(f"{root}: found no image in it; {EXPECTED}; name another folder with --dataset_dir")
    entries = []
    for pair in pairs:
        relative = [path.relative_to(root).as_posix() for path in pair if path]
        entries.append(with_patient(dict(zip(("image", "label"), relative))))
    return sorted(entries, key=sort_key)


def volume_pairs(root: Path, unlabelled: bool = False, series: str | int | None = None) -> Sequence[Pair] | None:
    """Pairs the volumes and the DICOM series of a folder with their labels.

    Args:
        root: the folder.
        unlabelled: also find images without a label, and pass over labels without an image and earlier results.
        series: of a DICOM source, see `scripts.series.index.choose`.

    Returns:
        The pairs, or None if the layout is none of those that have volumes.
    """

    def images_in(*folders: Path) -> list[Path]:
        return [path for path in nifti_files(folders) if not (unlabelled and is_result_or_label(path, root))]

    training, test = root / "imagesTr", root / "imagesTs"
    if (listed := decathlon_pairs(root, unlabelled)) is not None:
        pairs = with_unlisted(listed, images_in(training, test) or images_in(root)) if unlabelled else listed
        index_by_key((image for image, _ in pairs), case_name)
        return pairs
    if scans := folders_named(root, "semantic_MRs"):
        images = index_by_key(images_in(*scans), scan_key_or_refuse)
        labels = index_by_key(nifti_files(folders_named(root, "semantic_labels")), scan_key_or_refuse)
    elif training.is_dir():
        labels = index_by_key(nifti_files([root / "labelsTr"]), case_name)
        found = images_in(training, test) if unlabelled else images_in(training)
        images = index_by_key(found, lambda path: decathlon_key(path, labels))
        images = images or series_by_label(root if unlabelled else training, labels, series)
    else:
        return None
    return match_pairs(root, images, labels, unlabelled)


def with_patient(entry: dict, by_slice: bool = False) -> dict:
    """Adds patient and week to an entry, from the name of its image."""
    patient, week = (case_name(entry["image"]), None) if by_slice else scan_key(entry["image"])
    return {**entry, "patient": patient, "week": week}


def sort_key(entry: dict) -> tuple:
    """Sorts entries by patient, then by week."""
    return entry["patient"], entry["week"] or 0, entry["image"]


def find_images(source: str | Path, series: str | int | None = None) -> list[Path]:
    """Finds the images of a folder, without label maps and earlier results, see `MAPS`. A file is its own result.

    Args:
        source: a file, or a folder. If it has no NIfTI files and no slices, its DICOM series are the images; so are
            those of a zip archive or of a DICOMDIR.
        series: chooses among the series, see `scripts.series.index.choose`.
    """
    source = Path(source)
    if is_series(source):
        return [source]
    if source.is_file() or "*" in source.name:
        if is_source(source):
            return find_series_images(source, series)
        if not is_nifti(source) and not is_sliced(source):
            raise UserError(
                f"{source}: expected a NIfTI file (.nii, .nii.gz), a slice (.png, .tif), a folder of them, DICOM (a "
                "folder, a .zip, a DICOMDIR) or a datalist (.json)"
            )
        return [source]
    root = existing_folder(source)
    decathlon = [folder for folder in (root / "imagesTs", root / "imagesTr") if any(folder.glob("[!.]*"))]
    inside = folders_named(root, "semantic_MRs") or decathlon[:1] or [root]
    images = [path for path in nifti_files(inside) if not is_result_or_label(path, root) and not is_sliced(path)]
    images = images or slice_layouts.find_slice_images(root)
    if not images and is_source(root):
        return find_series_images(root, series)
    if not images:
        raise UserError(
            f"{root}: {reason_nothing_found(root)}; expected NIfTI images (.nii, .nii.gz), slices (.png, .tif) or DICOM"
        )
    if series is not None:
        raise UserError(f"series is {series!r}, but {root} has images that are no DICOM series; leave --series out")
    index_by_key(images, case_name)  # two images of one name would overwrite each other's result
    return images


def is_result_or_label(path: Path, root: Path) -> bool:
    """Whether a file is a label map or an earlier result by its name, or lies in a folder of labels, such as that of
    MONAI Label's server."""
    return case_name(path).lower().endswith((*MAPS, DOUBT)) or LABELS in path.relative_to(root).parts[:-1]


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
    return [by_value[value] for value in sorted(by_value)] if by_value else None


def existing_folder(path: str | Path, knob: str = "dataset_dir") -> Path:
    """Returns the path of a folder, and refuses anything else."""
    root = Path(path)
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root}: {knob} {found}, expected a folder; name yours with --{knob} DIR")
    return root


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def folders_named(root: Path, prefix: str) -> list[Path]:
    """Finds folders whose name begins with `prefix`, at most two levels down (unzipped archives add a level)."""
    candidates = [root, *root.glob("*"), *root.glob("*/*")]
    return sorted(path for path in candidates if path.is_dir() and path.name.startswith(prefix))


def nifti_files(roots: Iterable[Path]) -> list[Path]:
    """Finds the NIfTI files in folders and in everything below them. A link to nothing counts: it is an error later."""
    found = {path for root in roots for path in root.rglob("*")}  # a set, because one folder may be inside another
    return sorted(path for path in found if is_nifti(path) and (path.is_file() or not path.exists()))


def index_by_key(paths: Iterable[Path], key) -> dict:
    """Returns paths by key. Two paths of one key are refused, because one would silently replace the other."""
    found: dict = {}
    for path in paths:
        name = key(path)
        if name in found:
            shown = f"patient {name[0]}, week {name[1]}" if isinstance(name, tuple) else f"name {name}"
            raise UserError(f"{path}: the same {shown} as {found[name]}; expected one file for each, move one away")
        found[name] = path
    return found


def match_pairs(root: Path, images: dict, labels: dict, unlabelled: bool = False) -> list[Pair]:
    """Pairs images and labels of equal keys. It refuses an image or a label without a partner, if not `unlabelled`."""
    if not unlabelled:
        slice_layouts.refuse_unpaired(images, labels, "label", f" in {root}")
    return [(image, labels.get(key)) for key, image in images.items()]


def scan_key_or_refuse(path: Path) -> tuple[str, int | None]:
    """Returns patient and week from the file name, and refuses a name without them."""
    patient, week = scan_key(path)
    if week is None:
        raise UserError(f"{path}: expected a name like Case_004_Week0_LFOV.nii.gz; rename it or move it away")
    return patient, week


def decathlon_key(path: Path, labels: dict[str, Path]) -> str:
    """Returns the name of the label: that of the image, or this without nnU-Net's channel number (`_0000`). It refuses
    a second channel."""
    name = case_name(path)
    channel = re.search(r"_(\d{4})$", name)
    if not channel or name in labels or name[:-5] not in labels:
        return name
    if int(channel[1]) > 0 and path.with_name(path.name.replace(channel[0], "_0000")).exists():
        raise UserError(f"{path}: found a second channel, expected images of one channel; keep the _0000 files only")
    return name[:-5]


def first_channel(image: Path) -> Path:
    """Returns an image that a list names, or where only files with nnU-Net's channel number are there, the first."""
    first, second = (image.with_name(re.sub(r"(?=\.nii(\.gz)?$)", end, image.name)) for end in ("_0000", "_0001"))
    if image.exists() or not first.exists():
        return image
    if second.exists():
        decathlon_key(second, {case_name(image): image})  # refuses it
    return first


def is_inside(file: Path, folder: Path) -> bool:
    """Whether a path is one of a folder by its name; links may lead elsewhere."""
    return Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder))


def decathlon_pairs(root: Path, unlabelled: bool = False) -> list[tuple[Path, Path]] | None:
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


def with_unlisted(listed: Sequence[tuple[Path, Path]], found: Iterable[Path]) -> list[Pair]:
    """Adds the images that a list leaves out: neither one of its files, nor in a folder of its labels alone. A label
    that is not there yet is left out."""
    images, labels = zip(*listed)
    folders = {label.parent for label in labels} - {image.parent for image in images}
    others = [path for path in found if path not in {*images, *labels} and path.parent not in folders]
    return [(image, label if label.is_file() else None) for image, label in listed] + [(path, None) for path in others]


def reason_nothing_found(root: Path) -> str:
    """Says why no image was found in a folder: it contains DICOM files, is empty, or has an unknown layout."""
    inside = [path for _, path in zip(range(200), root.rglob("*")) if path.is_file()]
    if any(is_dicom(path) for path in inside):
        return "contains DICOM files, but not in imagesTr with their labels in labelsTr"
    return "contains no files" if not inside else "contains no images in a known layout"
