"""Which images of a source have a label, and which do not."""

from collections.abc import Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.data.datalist import NAMED, is_datalist, read_datalist
from scripts.data.folders import nifti_files
from scripts.data.layouts import find_images, volume_pairs
from scripts.data.names import case_name
from scripts.data.pairing import Pair, index_by_key
from scripts.data.series_layouts import refuse_series
from scripts.data.slice_layouts import find_slices
from scripts.data.slices import is_sliced
from scripts.data.splits import SPLITS
from scripts.series.index import is_series

LABELS = ("labelsTr", "labels/final")  # of Decathlon, and of MONAI Label's server


def find_scans(source: str, series: str | int | None = None) -> dict[str, list[dict]]:
    """Returns `labelled` and `unlabelled`, lists of {"image"}.

    Args:
        source: a folder in any layout that inference reads, or a datalist.
        series: of a DICOM source, as for inference.

    Raises:
        UserError: there is no image without a label.
    """
    if is_datalist(source):
        refuse_series(series, source, NAMED)
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
    """The images of a source, with the label of those that have one."""
    known = {case_name(path): path for name in LABELS for path in nifti_files([root / name])}
    return [
        {"image": str(image), "label": label or known.get(case_name(image))} for image, label in pairs_of(root, series)
    ]


def pairs_of(root: Path, series: str | int | None) -> Sequence[Pair]:
    """The images of a source, paired as for a training."""
    pairs = volume_pairs(root, unlabelled=True, series=series) if root.is_dir() else None
    if pairs and (series is None or is_series(pairs[0][0])):
        return pairs
    images = find_images(root, series)
    sliced = find_slices(root, unlabelled=True) if root.is_dir() and is_sliced(images[0]) else None
    if sliced:
        return [(root / entry["image"], root / entry["label"] if "label" in entry else None) for entry in sliced]
    return [(image, None) for image in images]
