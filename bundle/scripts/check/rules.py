"""The rules for a single case and for a data set, applied to the facts on each file.

`dataset.py` uses them; the facts come from `scripts.check.pictures.inspect_image`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from scripts.check.nifti import printable
from scripts.check.nifti_header import sizes_text
from scripts.check.voxel_statistics import MOST_LABEL_VALUES
from scripts.data.label_maps import grid_fault, labels_fault
from scripts.series.index import is_series
from scripts.series.stack import turned_like

FEW = 16  # a file with at most this many different whole values is a label map, not an MR image
ENOUGH = 5  # images that are needed to find one that is unlike the others
UNLIKE = 1.5  # a size within this factor of the median is normal, however equal the others are
SPREADS = 6  # a size within this many (robust) standard deviations is normal
COMMON = 0.9  # if at least this share of the labels has a class, its absence in the others is a warning


class ListedCase(NamedTuple):
    """One case of a data set. The paths are texts."""

    split: str
    patient: str
    image: str
    label: str | None


def case_faults(
    image: str,
    label: str | None,
    files: dict[str, dict],
    class_names: Sequence[str] | None,
    channels: int | None = None,
) -> list[str]:
    """Says why a case can't be used, with at most one line per file. The list is empty if it can be used.

    Args:
        image: path of the image.
        label: path of the label map, or None if there is none.
        files: facts by path, or {"error": line}.
        class_names: names of the values 0, 1, ...; None if they aren't known.
        channels: number of channels that the image must have; None for any number.
    """
    broken = [files[path]["error"] for path in (image, label) if path and "error" in files[path]]
    if broken:
        return broken
    first = files[image]
    if not label:
        fault = image_fault(image, first, class_names, channels)
        return [fault] if fault else []
    second = files[label]
    if looks_like_label_map(first, class_names) and looks_like_image(second, class_names):
        return [f"{printable(image)}: a label map, and {printable(label)} an image: they are swapped; exchange the two"]
    if first["digest"] == second["digest"]:
        return [
            f"{printable(label)}: the same voxels as its image {printable(image)}; expected a label map, "
            "name the right file"
        ]
    faults = [image_fault(image, first, class_names, channels), label_fault(label, second, class_names)]
    if not any(faults):
        grid, expected = ((facts["shape"], np.array(facts["affine"])) for facts in (second, first))
        if is_series(image):
            turned, affine = turned_like(np.broadcast_to(0, grid[0]), grid[1], expected[1])
            grid = turned.shape, affine
        faults.append(grid_fault(printable(label), grid, expected, printable(image)))
    return [line for line in faults if line]


def looks_like_label_map(facts: dict, class_names: Sequence[str] | None) -> bool:
    """Returns whether all values are whole numbers and few of them are different."""
    return facts["different"] is not None and 1 < facts["different"] <= max(FEW, len(class_names or ()))


def looks_like_image(facts: dict, class_names: Sequence[str] | None) -> bool:
    """Returns whether some values are not whole numbers, or many of them are different."""
    return facts["different"] is None or facts["different"] > max(MOST_LABEL_VALUES, len(class_names or ()))


def image_fault(path: str, facts: dict, class_names: Sequence[str] | None, channels: int | None) -> str | None:
    """Says why a file can't be used as an image, or returns None."""
    low, high = facts["least"], facts["most"]
    found = facts.get("channels", 1)
    if channels and found != channels:
        return (
            f"{printable(path)}: found {found} channel(s), expected {channels}; convert it, "
            f"or say --in_channels {found}"
        )
    if np.float32(low) == np.float32(high):
        return f"{printable(path)}: found the value {low:g} everywhere, expected an image; export or convert it again"
    if looks_like_label_map(facts, class_names):
        return (
            f"{printable(path)}: found {facts['different']} different values from {low:g} to {high:g}, so it looks "
            "like a label map; expected an MR image, name the right file"
        )
    return None


def label_fault(path: str, facts: dict, class_names: Sequence[str] | None) -> str | None:
    """Says why a file can't be used as a label map, or returns None."""
    low, high, off = facts["least"], facts["most"], facts["off"]
    if facts.get("channels", 1) != 1:
        return f"{printable(path)}: found {facts['channels']} channels, expected a mask of one, of grey values"
    if off is None and (facts["different"] or 0) > max(MOST_LABEL_VALUES, len(class_names or ())):
        return (
            f"{printable(path)}: found {facts['different']} different values from {low:g} to {high:g}, so it looks "
            "like an image; expected a label map, name the right file"
        )
    if class_names:
        fault = labels_fault(np.array([low if off is None else off, low, high]), printable(path), class_names)
        if fault:
            return fault
    elif facts["counts"] is None:
        return f"{printable(path)}: found {low if off is None else off:g}, expected whole numbers from 0; write labels"
    if facts["different"] == 1 and facts["shape"][2] > 1:  # a single slice may be empty
        kind = "background" if round(low) == 0 else f"label {low:.0f}"
        return (
            f"{printable(path)}: contains only {kind}, expected two classes or more; draw the others, "
            "or remove the case"
        )
    return None


def find_copies(cases: Sequence[ListedCase], files: dict[str, dict]) -> tuple[list[str], list[str]]:
    """Finds cases that are listed twice, and equal voxels in two files.

    Returns:
        Errors, for example for a copy in another split or of another patient, and warnings for other copies.
    """
    errors: list[str] = []
    warnings: list[str] = []
    paths: dict[str, ListedCase] = {}
    images: dict[str, ListedCase] = {}
    labels: dict[str, ListedCase] = {}
    for case in cases:
        earlier = paths.setdefault(case.image, case)
        if earlier is not case:
            errors.append(
                f"{printable(case.image)}: listed under {earlier.split} and again under {case.split}; list it once"
            )
            continue
        for path, known in ((case.image, images), (case.label, labels)):
            # all empty slices are equal
            digest = files[path]["digest"] if path and files[path]["different"] != 1 else None
            other = known.setdefault(digest, case) if digest else case
            if path and other is not case:
                apart = (other.split, other.patient) != (case.split, case.patient)
                theirs = other.image if known is images else other.label
                (errors if apart else warnings).append(
                    f"{printable(path)}: the same voxels as {printable(str(theirs))} ({other.split}, patient "
                    f"{other.patient}; this one {case.split}, patient {case.patient}); "
                    "expected each scan once, remove one of them"
                )
                break  # a copy of both image and label is one finding, not two
    return errors, warnings


def find_oddities(cases: Sequence[ListedCase], files: dict[str, dict], class_names: Sequence[str]) -> list[str]:
    """Returns the warnings on valid cases: those on single files, missing classes, and grids unlike the others."""
    paths = dict.fromkeys(path for case in cases for path in (case.image, case.label) if path)
    lines = [f"{printable(path)}: {text}" for path in paths for text in files[path].get("warnings", [])]
    return (
        lines
        + find_absent_classes(cases, files, class_names)
        + find_outliers(dict.fromkeys(c.image for c in cases), files)
    )


def find_absent_classes(cases: Sequence[ListedCase], files: dict[str, dict], class_names: Sequence[str]) -> list[str]:
    """Finds classes that a split does not have at all, and classes that only few of the labels lack."""
    labels = {case.label: case.split for case in cases if case.label and files[case.label].get("counts")}
    lines = []
    for value, name in enumerate(class_names):
        having = [path for path in labels if files[path]["counts"].get(str(value))]
        without = [split for split in dict.fromkeys(labels.values()) if split not in {labels[path] for path in having}]
        lines += [f"{split}: no label has any {name} (value {value})" for split in without]
        if len(labels) > len(having) >= COMMON * len(labels):
            lines += [
                f"{printable(path)}: no {name} (value {value}) in it, {len(having)} of {len(labels)} labels have some"
                for path in labels
                if path not in having and labels[path] not in without
            ]
    return lines


def find_outliers(images: Iterable[str], files: dict[str, dict]) -> list[str]:
    """Finds images whose spacing or extent along R, A or S is far from the median of all images."""
    paths = [path for path in images if "error" not in files[path]]
    if len(paths) < ENOUGH:
        return []
    spacing = np.array([files[path]["spacing"] for path in paths])
    extent = spacing * np.array([files[path]["ras_shape"] for path in paths])
    lines = []
    for what, sizes in (("a spacing", spacing), ("an extent", extent)):
        away = np.abs(np.log(sizes) - np.median(np.log(sizes), axis=0))
        limit = np.maximum(np.log(UNLIKE), SPREADS * 1.4826 * np.median(away, axis=0))
        lines += [
            f"{printable(paths[i])}: {what} of {sizes_text(sizes[i])} mm along R, A and S; the median is "
            f"{sizes_text(np.median(sizes, axis=0))} mm"
            for i in np.flatnonzero((away > limit).any(axis=1))
        ]
    return lines
