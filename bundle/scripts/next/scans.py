"""Which images of a source have a label, and which do not."""

import re
from pathlib import Path

from scripts.core.errors import UserError
from scripts.data.datalist import read_datalist
from scripts.data.layouts import (
    case_name,
    find_images,
    folders_named,
    index_by_key,
    is_result_or_label,
    nifti_files,
    scan_key,
)
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
    index_by_key((Path(scan["image"]) for scan in found["unlabelled"]), case_name)
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
    folders = [root / name for name in ("imagesTr", "imagesTs")]  # inference would take the latter alone
    decathlon = [path for path in nifti_files(folders) if not is_result_or_label(path, root)]
    return [
        {
            "image": str(path),
            "label": mask_of(path)
            if is_sliced(path)
            else known.get(case_name(path))
            or known.get(re.sub(r"_0000$", "", case_name(path)))  # nnU-Net's number of the channel
            or by_scan.get(scan_key(path)),
        }
        for path in decathlon or find_images(root, series)
    ]


def mask_of(path: Path) -> Path | None:
    """The mask of a picture, or of the first slice of a stack."""
    beside = f"{path.stem}_mask{path.suffix}"
    keras = path.parent.name.replace("keras_slices_", "keras_slices_seg_")
    places = [(path.parent.name, beside), ("mask", beside), ("masks", beside)]
    places += [(keras, f"seg_{path.name.removeprefix('case_')}")] if keras != path.parent.name else []
    return next((found for place, name in places for found in sorted(path.parent.with_name(place).glob(name))), None)
