"""Which images of a source have a label, and which do not."""

from pathlib import Path

from scripts.core.errors import UserError
from scripts.data.datalist import read_datalist
from scripts.data.layouts import case_name, find_images, folders_named, nifti_files, scan_key
from scripts.data.slices import is_sliced
from scripts.data.splits import SPLITS

LABELS = ("labelsTr", "labels/final")  # of Decathlon, and of MONAI Label's server


def find_scans(source: str, series: str | int | None = None) -> dict[str, list[dict]]:
    """Returns `labelled` and `unlabelled`, lists of {"image"}.

    Args:
        source: a folder in any layout that inference reads, or a datalist.
        series: of a DICOM source, as for inference.

    Raises:
        UserError: there is no image without a label.
    """
    if Path(source).suffix.lower() == ".json" and Path(source).is_file():
        content = read_datalist(source)
        entries = [entry for split in SPLITS for entry in content[split]]
    else:
        entries = entries_of(Path(source), series)
    unique = {str(entry["image"]): entry for entry in entries}
    found: dict[str, list[dict]] = {"labelled": [], "unlabelled": []}
    for image, entry in unique.items():
        found["labelled" if entry.get("label") else "unlabelled"].append({"image": image})
    if not found["unlabelled"]:
        raise UserError(
            f"{source}: all {len(unique)} scans have a label; expected some without, to choose from; name another "
            "folder or datalist with --dataset_dir"
        )
    return found


def entries_of(root: Path, series: str | int | None) -> list[dict]:
    """The images of a folder, with the label of those that have one."""
    known = {case_name(path): path for name in LABELS for path in nifti_files([root / name])}
    by_scan = {scan_key(path): path for path in nifti_files(folders_named(root, "semantic_labels"))}
    return [
        {
            "image": str(path),
            "label": mask_of(path) if is_sliced(path) else known.get(case_name(path)) or by_scan.get(scan_key(path)),
        }
        for path in find_images(root, series)
    ]


def mask_of(path: Path) -> Path | None:
    """The mask of a picture, or of the first slice of a stack."""
    name = f"{path.stem}_mask{path.suffix}"
    folders = (path.parent, *(path.parent.with_name(folder) for folder in ("mask", "masks")))
    return next((found for folder in folders for found in sorted(folder.glob(name))), None)
