"""Puts the structures of SEG and RTSTRUCT objects on the grid of a series."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.core.errors import UserError
from scripts.dicom.contours import fill
from scripts.dicom.identity import without_warnings
from scripts.dicom.reading import StructureFile, items, unreadable
from scripts.series.headers import LARGEST_AXIS
from scripts.series.pixels import LARGEST_VOXELS, check_coded_size
from scripts.series.stack import GRID_TOLERANCE_MM, Stack

MOST_PIXELS = 2**31  # of all frames of a SEG; it is read frame by frame
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
BETWEEN_SLICES = 0.25  # a contour may be this far from its slice, in steps of slices


@dataclass
class Mask:
    """The voxels of a structure.

    Attributes:
        voxels: indexed [slice, row, column].
        beside: contours, or voxels of a SEG, that lie on no slice of the series or outside of it; also contours without
            a point.
        gaps: slices between its first and its last one that have no contour.
    """

    voxels: np.ndarray
    beside: int = 0
    gaps: int = 0


@without_warnings()
def read_masks(file: StructureFile, stack: Stack, numbers: set[int]) -> dict[int, Mask]:
    """Puts structures of a file on the grid of a series.

    Args:
        file: the file.
        stack: the series.
        numbers: the structures that are wanted.

    Raises:
        UserError: a SEG is on another grid, or the file is damaged.
    """
    columns, rows, slices = stack.shape
    if columns * rows * slices > LARGEST_VOXELS:
        raise UserError(f"{stack.name}: found {stack.shape} voxels, expected {LARGEST_VOXELS:,} at most; crop it")
    masks = {number: Mask(np.zeros((slices, rows, columns), bool)) for number in sorted(numbers)}
    draw = draw_segments if file.is_segmentation else draw_regions
    try:
        draw(file, stack, masks)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pydicom and its decoders raise many kinds for a damaged file
        raise unreadable(file.path, error) from error
    return masks


def draw_segments(file: StructureFile, stack: Stack, masks: dict[int, Mask]) -> None:
    """Draws the frames of a SEG, one after the other."""
    content = file.content
    rows, columns, count = int(content.Rows), int(content.Columns), int(content.get("NumberOfFrames") or 1)
    if max(rows, columns) > LARGEST_AXIS or rows * columns * count > MOST_PIXELS:
        raise ValueError(f"{count} frames of {rows} x {columns} pixels, expected {MOST_PIXELS:,} pixels at most")
    shared: Any = next(items(content, "SharedFunctionalGroupsSequence"), {})
    groups = list(items(content, "PerFrameFunctionalGroupsSequence"))
    if len(groups) != count:
        raise ValueError(f"found the places of {len(groups)} frames, expected those of {count}")
    check_coded_size(content)
    labelmap = content.SegmentationType == "LABELMAP"
    half = int(content.get("MaximumFractionalValue") or 1) / 2 if content.SegmentationType == "FRACTIONAL" else 0.5
    for group, pixels in zip(groups, frames_of(content, (rows, columns), count)):
        step, origin = place_of_frame(file, group, shared, (rows, columns), stack)
        if labelmap:
            found = {int(number): pixels == number for number in np.unique(pixels)}
        else:
            segment = group_item(group, shared, "SegmentIdentificationSequence")
            found = {int(segment.ReferencedSegmentNumber): pixels >= half}
        for number in found.keys() & masks.keys():
            row, column = np.nonzero(found[number])
            places = column[:, None] * step[:, 0] + row[:, None] * step[:, 1] + origin
            inside = ((places >= 0) & (places < stack.shape)).all(axis=1)
            masks[number].beside += int(np.count_nonzero(~inside))
            at = places[inside]
            masks[number].voxels[at[:, 2], at[:, 1], at[:, 0]] = True


def frames_of(content: Any, size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """The pixels of every frame. Those of one bit are unpacked here: pydicom 3.0 reads a byte too few where a frame
    begins within one."""
    from pydicom.pixels import iter_pixels

    if content.BitsAllocated != 1 or content.file_meta.TransferSyntaxUID.is_compressed:
        yield from iter_pixels(content, raw=True)
        return
    pixels, packed = size[0] * size[1], np.frombuffer(content.PixelData, np.uint8)
    for start in range(0, count * pixels, pixels):
        bits = np.unpackbits(packed[start // 8 : -(-(start + pixels) // 8)], bitorder="little")
        yield bits[start % 8 : start % 8 + pixels].reshape(size)


def group_item(group: Any, shared: Any, sequence: str) -> Any:
    """The item of a functional group that a frame has for itself, or shares with all others."""
    for holder in (group, shared):
        for item in holder.get(sequence) or []:
            return item
    raise ValueError(f"a frame has no {sequence}")


def place_of_frame(
    file: StructureFile, group: Any, shared: Any, size: tuple[int, int], stack: Stack
) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a frame are in a series.

    Returns:
        The step of one column and of one row, and the place of the first pixel, in whole columns, rows and slices.
    """
    directions = np.array(group_item(group, shared, "PlaneOrientationSequence").ImageOrientationPatient, float)
    position = np.array(group_item(group, shared, "PlanePositionSequence").ImagePositionPatient, float)
    spacing = np.array(group_item(group, shared, "PixelMeasuresSequence").PixelSpacing, float)
    to_place = np.linalg.inv(stack.affine)
    exact = to_place[:3, :3] @ (directions.reshape(2, 3).T * spacing[::-1])
    first = to_place[:3, :3] @ position + to_place[:3, 3]
    if not (np.isfinite(exact).all() and np.abs(first).max() < 1e6):
        raise ValueError("a frame lies at no place")
    step, origin = np.rint(exact).astype(int), np.rint(first).astype(int)
    if (np.abs(step).sum(axis=0) != 1).any():
        raise UserError(
            f"{file.path}: its pixels are as large as {np.abs(step).sum(axis=0)} voxels of {stack.name}, expected one; "
            "resample the SEG to the grid of the series"
        )
    ends = np.array([[0, 0], [size[1] - 1, 0], [0, size[0] - 1], [size[1] - 1, size[0] - 1]])
    off = stack.affine[:3, :3] @ ((exact - step) @ ends.T + (first - origin)[:, None])
    furthest = float(np.linalg.norm(off, axis=0).max())
    if furthest > GRID_TOLERANCE_MM:
        raise UserError(
            f"{file.path}: a frame is {furthest:.2f} mm off the voxels of {stack.name}, expected at most "
            f"{GRID_TOLERANCE_MM}; resample the SEG to the grid of the series"
        )
    return step, origin


def draw_regions(file: StructureFile, stack: Stack, masks: dict[int, Mask]) -> None:
    """Draws the contours of an RTSTRUCT."""
    for item in items(file.content, "ROIContourSequence"):
        mask = masks.get(int(item.ReferencedROINumber))
        if mask is None:
            continue
        on_slice: dict[int, list[np.ndarray]] = {}
        exclusive = False
        for contour in items(item, "ContourSequence"):
            kind = str(contour.get("ContourGeometricType", ""))
            if kind not in CLOSED:
                continue
            exclusive |= kind != CLOSED[0]
            points = contour_points(contour, stack)
            place = round(float(np.median(points[:, 2]))) if len(points) else -1
            within = 0 <= place < stack.shape[2] and np.abs(points[:, 2] - place).max() <= BETWEEN_SLICES
            if within:
                on_slice.setdefault(place, []).append(points[:, :2])
            mask.beside += not within
        for place, outlines in on_slice.items():
            mask.voxels[place] = joined(outlines, mask.voxels.shape[1:], exclusive)
        mask.gaps = max(on_slice) - min(on_slice) + 1 - len(on_slice) if on_slice else 0


def contour_points(contour: Any, stack: Stack) -> np.ndarray:
    """The points of a contour as (column, row, slice); none where it has no data."""
    element = contour.get_item("ContourData")
    found = element.value if element is not None else None
    if isinstance(found, bytes):  # not read yet: pydicom takes ten times as long to make numbers of them
        text = found.strip(b" \0")
        found = text.split(b"\\") if text else None
    points = np.array([] if found is None else found, dtype=float).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError("a contour has a point that is no number")
    to_place = np.linalg.inv(stack.affine)
    return points @ to_place[:3, :3].T + to_place[:3, 3]


def joined(outlines: list[np.ndarray], shape: tuple[int, ...], exclusive: bool) -> np.ndarray:
    """The pixels of the contours that one structure has on one slice.

    A contour within another one is a hole in it, one within a hole an island; those that overlap otherwise are added.

    Args:
        outlines: closed outlines (column, row).
        shape: rows and columns.
        exclusive: what an even number of contours encloses is left out, as the file says so itself.
    """
    masks = {found.tobytes(): found for found in (fill(outline, shape) for outline in outlines)}
    result = np.zeros(shape, bool)
    for found in sorted(masks.values(), key=np.count_nonzero, reverse=True):
        if exclusive or (found & result).sum() == found.sum():
            result ^= found
        else:
            result |= found
    return result
