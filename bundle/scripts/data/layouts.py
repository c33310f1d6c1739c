"""Finds images and labels in a folder: HipMRI's own layout, Decathlon's, plain files, slices, or DICOM series.

The datalist, the data check and inference use it.
"""

from collections.abc import Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.data import slice_layouts
from scripts.data.decathlon import key_of_label, listed_pairs, refuse_second_channels, with_unlisted
from scripts.data.folders import existing_folder, folders_named, is_nifti, nifti_files, reason_nothing_found
from scripts.data.names import DOUBT, MAPS, case_name, is_written_series, scan_key, scan_key_or_refuse
from scripts.data.pairing import Pair, index_by_key, match
from scripts.data.series_layouts import find_series_images, refuse_series, series_by_label
from scripts.data.slices import is_sliced, scan_exists
from scripts.series.files import is_dicom
from scripts.series.index import find_series, is_series, is_source, walk

LABELS = "labels"  # a folder beside images
EXPECTED = (
    "expected semantic_MRs*/ with semantic_labels*/ (HipMRI), imagesTr/ with labelsTr/ or a dataset.json (Decathlon), "
    f"or slices: {slice_layouts.EXPECTED}"
)


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
    if (listed := listed_pairs(root, unlabelled)) is not None:
        pairs = with_unlisted(listed, images_in(training, test) or images_in(root)) if unlabelled else listed
        index_by_key((image for image, _ in pairs), case_name)
        return pairs
    if scans := folders_named(root, "semantic_MRs"):
        images = index_by_key(images_in(*scans), scan_key_or_refuse)
        labels = index_by_key(nifti_files(folders_named(root, "semantic_labels")), scan_key_or_refuse)
    elif training.is_dir():
        labels = index_by_key(nifti_files([root / "labelsTr"]), case_name)
        found = images_in(training, test) if unlabelled else images_in(training)
        images = index_by_key(found, lambda path: key_of_label(path, labels))
        if unlabelled:
            refuse_second_channels(found)
        images = images or series_by_label(root if unlabelled else training, labels, series)
    else:
        return None
    return match(images, labels, unlabelled, "label", f" in {root}")


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
        find_series(source)  # refuses a name that no series has
        return [source]
    if source.is_file() or "*" in source.name:
        if not scan_exists(source):
            raise UserError(f"{source}: no such slices; expected files with a number in place of *, correct the path")
        if is_source(source):
            return find_series_images(source, series)
        if not is_nifti(source) and not is_sliced(source):
            raise UserError(
                f"{source}: expected a NIfTI file (.nii, .nii.gz), a slice (.png, .tif), a folder of them, DICOM (a "
                "folder, a .zip, a DICOMDIR) or a datalist (.json)"
            )
        refuse_series(series, source)
        return [source]
    root = existing_folder(source)
    folders = root / "imagesTs", root / "imagesTr"
    decathlon = [folder for folder in folders if any(is_nifti(path) or is_dicom(path) for path in walk(folder))]
    inside = folders_named(root, "semantic_MRs") or decathlon[:1] or [root]
    images = [path for path in nifti_files(inside) if not is_result_or_label(path, root) and not is_sliced(path)]
    place = inside[0] if len(inside) == 1 else root
    if not images and any(map(is_dicom, walk(place))):  # before pictures: a disc has some for its viewer
        return find_series_images(place, series)
    images = images or slice_layouts.find_slice_images(root)
    if not images and is_source(place):
        return find_series_images(place, series)
    if not images:
        raise UserError(
            f"{root}: {reason_nothing_found(root)}; expected NIfTI images (.nii, .nii.gz), slices (.png, .tif) or DICOM"
        )
    refuse_series(series, root)
    refuse_second_channels(images)
    index_by_key(images, case_name)  # two images of one name would overwrite each other's result
    return images


def is_result_or_label(path: Path, root: Path) -> bool:
    """Whether a file is a label map or an earlier result by its name, or lies in a folder of labels, such as that of
    MONAI Label's server. A series that an inference wrote as NIfTI is a result where there is DICOM to read it from."""
    if case_name(path).lower().endswith((*MAPS, DOUBT)) or LABELS in path.relative_to(root).parts[:-1]:
        return True
    return is_written_series(path) and is_source(root)
