"""Reads label maps, compares their grids, and pairs predictions with the truth, whichever tool has written them.

The report, the scorer and the data check use it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.core.errors import UserError
from scripts.data import slices
from scripts.data.folders import existing_folder, nifti_files
from scripts.data.names import DOUBT, MAPS, case_name, scan_key, slice_number
from scripts.series.index import is_series
from scripts.series.reader import read_series
from scripts.series.stack import GRID_TOLERANCE_MM, furthest_corner_mm


def read_labels(path: str | Path, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reads a label map.

    Returns:
        The labels as uint8, and the affine.

    Raises:
        UserError: the file is not completely readable, is not a single volume, or has values that are no class.
    """
    values, affine = read_volume(path)
    return round_labels(values, path, class_names), affine


def read_volume(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the volume of a file, of a stack of slices or of a series, and its affine. Colours are averaged."""
    if is_series(path):
        return read_series(path)
    if slices.is_sliced(path):
        values, affine = slices.read_slices(path)
        return (values.mean(axis=3) if values.ndim == 4 else values), affine
    try:
        image = nib.load(path)
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for an incomplete file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
        raise UserError(f"{path}: not readable ({reason}); expected a complete NIfTI file, write it again") from error
    if values.dtype.kind not in "buif":
        raise UserError(f"{path}: found values of type {values.dtype}, expected one number for each voxel; convert it")
    return single_volume(values, path), image.affine


def single_volume(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Drops a fourth axis of length 1, and refuses any other array that has not three axes."""
    shape = values.shape
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise UserError(f"{path}: found shape {shape}, expected one volume of 3 axes; extract it first")
    return values


def round_labels(values: np.ndarray, path: str | Path, class_names: Sequence[str]) -> np.ndarray:
    """Returns stored values as classes (uint8).

    Raises:
        UserError: see `labels_fault`.
    """
    fault = labels_fault(values, path, class_names)
    if fault:
        raise UserError(fault)
    return np.rint(values).astype(np.uint8)


def labels_fault(values: np.ndarray, path: str | Path, class_names: Sequence[str]) -> str | None:
    """Says why values can't be labels: they are not finite, not whole (up to rounding), or beyond the last class."""
    last = len(class_names) - 1
    if not np.isfinite(values).all():
        return f"{path}: found values that are not finite; expected labels 0 to {last}, write it again"
    whole = np.rint(values)
    off = values[np.abs(values - whole) > 1e-3]
    if off.size:
        return (
            f"{path}: found {float(off.flat[0]):.4g}, not a label; expected whole numbers from 0 to {last}: "
            "was it resampled with interpolation, or does it hold probabilities? Write labels"
        )
    low, high = (float(v) for v in (whole.min(), whole.max()))
    if low < 0 or high > last:
        return (
            f"{path}: found label {low if low < 0 else high:.0f}; expected 0 to {last} "
            f"({', '.join(class_names)}), name the classes of this file with --class_names"
        )
    return None


def refuse_other_grid(path: str | Path, labels: np.ndarray, affine: np.ndarray, other: tuple, name: str) -> None:
    """Refuses a map that is not on the grid of `other`, a pair of volume and affine called `name`."""
    fault = grid_fault(path, (labels.shape, affine), (other[0].shape, other[1]), name)
    if fault:
        raise UserError(fault)


def grid_fault(path: str | Path, grid: tuple, other: tuple, name: str) -> str | None:
    """Says how the grid of a file differs from another one.

    Args:
        path: of the file, for the message.
        grid: its shape and affine.
        other: shape and affine that are expected.
        name: what the other grid belongs to, for the message.
    """
    shape, expected = tuple(grid[0]), tuple(other[0])
    if shape != expected:
        return f"{path}: found shape {shape}, expected {expected} as {name} has; resample it to that grid"
    distance = furthest_corner_mm(shape, grid[1], other[1])
    if distance > GRID_TOLERANCE_MM:
        return (
            f"{path}: its affine puts a corner {distance:.2f} mm from where {name} has it, expected at most "
            f"{GRID_TOLERANCE_MM}; resample it to that grid, or copy that header if only the header is wrong"
        )
    return None


def voxel_ml(affine: np.ndarray) -> float:
    """The volume of a voxel in millilitres."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def label_key(path: str | Path) -> str:
    """Returns the key that a label map shares with its image and its truth: patient and week, of a single slice its
    number as well, or the bare name."""
    patient, week = scan_key(path)
    if week is not None:
        number = slice_number(path)
        return f"{patient} week {week}" + ("" if number is None else f" slice {number}")
    return re.sub(rf"({'|'.join(MAPS)}|_0000)+$", "", case_name(path), flags=re.IGNORECASE)


def files_by_key(folder: str | Path, knob: str, others: Sequence[str] = (DOUBT,)) -> tuple[dict[str, Path], list[str]]:
    """Returns the files of a folder by key, and a line for every file that has the key of another file.

    Args:
        folder: of NIfTI files.
        knob: that named it, for the message.
        others: ends of names of files that are something else.
    """
    found: dict[str, Path] = {}
    problems = []
    files = nifti_files([existing_folder(folder, knob)])
    for path in (path for path in files if not case_name(path).lower().endswith(tuple(others))):
        other = found.setdefault(label_key(path), path)
        if other is not path:
            problems.append(f"{path}: the same case as {other.name}; expected one file for each case, move one away")
    return found, problems


def pair_truth_and_prediction(truth: str | Path, prediction: str | Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pairs the files of two folders by name.

    Args:
        truth: folder of the true label maps.
        prediction: folder of the predicted label maps.

    Returns:
        Pairs of truth and prediction, and a line for every file that has no partner.

    Raises:
        UserError: there is no pair at all.
    """
    (truths, first), (predictions, second) = files_by_key(truth, "truth"), files_by_key(prediction, "prediction")
    problems = first + second
    problems += [
        f"{path}: no prediction for it in {prediction}; predict it, or move the file away"
        for key, path in truths.items()
        if key not in predictions
    ]
    problems += [
        f"{path}: no truth for it in {truth}; add it, or move the file away"
        for key, path in predictions.items()
        if key not in truths
    ]
    pairs = [(path, predictions[key]) for key, path in truths.items() if key in predictions]
    if not pairs:
        counts = f"{len(predictions) + len(second)} and {len(truths) + len(first)}"
        raise UserError(
            f"{prediction}: no file matches one in {truth} ({counts} NIfTI files found); "
            "expected equal names (a final _seg is ignored), or equal patient and week; rename the files"
        )
    return pairs, problems
