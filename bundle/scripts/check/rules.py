"""What one case and a whole set of them must hold to, told from facts on each file (`scripts.check.nifti.inspect`)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from scripts.check.nifti import shown
from scripts.check.nifti_header import listed
from scripts.check.voxel_statistics import KEPT
from scripts.core.errors import UserError
from scripts.data.label_maps import refuse_other_grid, round_labels

FEW = 16  # different whole values: with no more than these a file is a label map, not an MR image
ENOUGH = 5  # cases from which on one can be unlike the others
UNLIKE = 1.5  # factor from the median that is nothing special, however equal the others are
SPREADS = 6  # standard deviations, estimated robustly, that aren't either
COMMON = 0.9  # share of the labels that have a class, from which on its absence is worth a word


class Case(NamedTuple):
    """One listed case; paths as text."""

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
    """Why a case can't be used, at most one line a file.

    Args:
        image: path.
        label: path, or None where there is none.
        files: facts by path, or {"error": line}.
        class_names: names of the values 0, 1, ...; None where they aren't known.
        channels: that an image must have; None where any number will do.
    """
    broken = [files[path]["error"] for path in (image, label) if path and "error" in files[path]]
    if broken:
        return broken
    first = files[image]
    if label is None:
        fault = image_fault(image, first, class_names, channels)
        return [fault] if fault else []
    second = files[label]
    if label_like(first, class_names) and image_like(second, class_names):
        return [f"{shown(image)}: a label map, and {shown(label)} an image: they are swapped; exchange the two"]
    if first["digest"] == second["digest"]:
        return [
            f"{shown(label)}: the same voxels as its image {shown(image)}; expected a label map, name the right file"
        ]
    found = [
        image_fault(image, first, class_names, channels),
        label_fault(label, second, class_names),
    ]
    return [line for line in found if line] or grid_faults(image, label, first, second)


def label_like(facts: dict, class_names: Sequence[str] | None) -> bool:
    return facts["different"] is not None and 1 < facts["different"] <= max(FEW, len(class_names or ()))


def image_like(facts: dict, class_names: Sequence[str] | None) -> bool:
    return facts["different"] is None or facts["different"] > max(KEPT, len(class_names or ()))


def image_fault(path: str, facts: dict, class_names: Sequence[str] | None, channels: int | None) -> str | None:
    low, high = facts["least"], facts["most"]
    found = facts.get("channels", 1)
    if channels and found != channels:
        return (
            f"{shown(path)}: found {found} channel(s), expected {channels}; write it so, or say --in_channels {found}"
        )
    if np.float32(low) == np.float32(high):
        return f"{shown(path)}: found the value {low:g} everywhere, expected an image; export or convert it again"
    if label_like(facts, class_names):
        return (
            f"{shown(path)}: found {facts['different']} different values from {low:g} to {high:g}, so it looks like a "
            "label map; expected an MR image, name the right file"
        )
    return None


def label_fault(path: str, facts: dict, class_names: Sequence[str] | None) -> str | None:
    low, high, off = facts["least"], facts["most"], facts["off"]
    if facts.get("channels", 1) != 1:
        return f"{shown(path)}: found {facts['channels']} channels, expected a mask of one, of grey values"
    if off is None and (facts["different"] or 0) > max(KEPT, len(class_names or ())):
        return (
            f"{shown(path)}: found {facts['different']} different values from {low:g} to {high:g}, so it looks like an "
            "image; expected a label map, name the right file"
        )
    if class_names:
        try:
            round_labels(np.array([low if off is None else off, low, high]), shown(path), class_names)
        except UserError as error:
            return str(error)
    elif facts["counts"] is None:
        return f"{shown(path)}: found {low if off is None else off:g}, expected whole numbers from 0; write labels"
    if facts["different"] == 1 and facts["shape"][2] > 1:  # a slice may well be empty
        kind = "background" if round(low) == 0 else f"label {low:.0f}"
        return f"{shown(path)}: nothing but {kind} in it, expected two classes or more; draw it, or take the case away"
    return None


def grid_faults(image: str, label: str, first: dict, second: dict) -> list[str]:
    """The label must lie on its image's voxels."""
    volumes = [np.broadcast_to(np.uint8(0), facts["shape"]) for facts in (second, first)]  # shapes without memory
    try:
        affines = [np.array(facts["affine"]) for facts in (second, first)]
        refuse_other_grid(shown(label), volumes[0], affines[0], (volumes[1], affines[1]), shown(image))
    except UserError as error:
        return [str(error)]
    return []


def copies(cases: Sequence[Case], files: dict[str, dict]) -> tuple[list[str], list[str]]:
    """Cases listed twice and voxels under two names: errors across splits or patients, else warnings."""
    errors: list[str] = []
    warnings: list[str] = []
    paths: dict[str, Case] = {}
    images: dict[str, Case] = {}
    labels: dict[str, Case] = {}
    for case in cases:
        earlier = paths.setdefault(case.image, case)
        if earlier is not case:
            errors.append(
                f"{shown(case.image)}: listed under {earlier.split} and again under {case.split}; list it once"
            )
            continue
        for path, known in ((case.image, images), (case.label, labels)):
            digest = files[path]["digest"] if path and files[path]["different"] != 1 else None  # empty slices are alike
            other = known.setdefault(digest, case) if digest else case
            if path and other is not case:
                apart = (other.split, other.patient) != (case.split, case.patient)
                theirs = other.image if known is images else other.label
                (errors if apart else warnings).append(
                    f"{shown(path)}: the same voxels as {shown(str(theirs))} ({other.split}, patient {other.patient}; "
                    f"this one {case.split}, patient {case.patient}); expected each scan once, take one of them away"
                )
                break  # a case copied whole is one finding, not two
    return errors, warnings


def oddities(cases: Sequence[Case], files: dict[str, dict], class_names: Sequence[str]) -> list[str]:
    """Warnings on sound cases: remarks on a file, classes that are missing, grids unlike the others'."""
    paths = dict.fromkeys(path for case in cases for path in (case.image, case.label) if path)
    lines = [f"{shown(path)}: {text}" for path in paths for text in files[path].get("warnings", [])]
    return lines + absent_classes(cases, files, class_names) + outliers(dict.fromkeys(c.image for c in cases), files)


def absent_classes(cases: Sequence[Case], files: dict[str, dict], class_names: Sequence[str]) -> list[str]:
    labels = {case.label: case.split for case in cases if case.label and files[case.label].get("counts")}
    lines = []
    for value, name in enumerate(class_names):
        having = [path for path in labels if files[path]["counts"].get(str(value))]
        without = [split for split in dict.fromkeys(labels.values()) if split not in {labels[path] for path in having}]
        lines += [f"{split}: no label has any {name} (value {value})" for split in without]
        if len(labels) > len(having) >= COMMON * len(labels):
            lines += [
                f"{shown(path)}: no {name} (value {value}) in it, {len(having)} of {len(labels)} labels have some"
                for path in labels
                if path not in having and labels[path] not in without
            ]
    return lines


def outliers(images: Iterable[str], files: dict[str, dict]) -> list[str]:
    """Images whose spacing or extent along R, A or S is far from the median of all."""
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
            f"{shown(paths[i])}: {what} of {listed(sizes[i])} mm along R, A and S; the median is "
            f"{listed(np.median(sizes, axis=0))} mm"
            for i in np.flatnonzero((away > limit).any(axis=1))
        ]
    return lines
