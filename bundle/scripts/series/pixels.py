"""The pixels of slices, in the units that their headers promise. `reader.py` uses this module."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.core.errors import UserError
from scripts.core.extras import EXTRAS
from scripts.series.files import DicomFile, first_line
from scripts.series.headers import Frame, open_dataset

LARGEST_VOXELS = 2**28  # of a series
START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}  # markers in JPEG and JPEG-LS
SIZE_OF_IMAGE = b"\xff\x4f\xff\x51"  # in JPEG 2000


def read_frames(frames: Sequence[Frame], name: str) -> np.ndarray:
    """Reads slices, with rescale slope and intercept applied.

    Args:
        frames: the slices in order.
        name: of the series, for messages.

    Returns:
        An array indexed [slice, row, column]: integers as they are stored, or float32 if a slice is scaled.

    Raises:
        UserError: the first file that can't be decoded.
    """
    rows, columns = frames[0].size
    if len(frames) * rows * columns > LARGEST_VOXELS:
        raise UserError(
            f"{name}: found {columns} x {rows} x {len(frames)} voxels, expected {LARGEST_VOXELS:,} at most; crop it"
        )
    values: np.ndarray | None = None
    opened: tuple[DicomFile, np.ndarray] | None = None
    last: dict[DicomFile, int] = {}
    for frame in frames:
        last[frame.file] = max(frame.number, last.get(frame.file, 0))
    for index, frame in enumerate(frames):
        if opened is None or opened[0] != frame.file:
            opened = frame.file, read_pixels(frame, last[frame.file])
        found = opened[1][frame.number - 1]
        if values is None:
            values = np.empty((len(frames), rows, columns), found.dtype)
        elif values.dtype != found.dtype:
            values = values.astype(np.result_type(values, found))
        values[index] = found
    assert values is not None
    return values


def read_pixels(frame: Frame, last: int) -> np.ndarray:
    """The frames of a file, scaled.

    Args:
        frame: one of the file's.
        last: number of the last frame that is needed.
    """
    try:
        with frame.file.open() as stream:
            found = open_dataset(stream)
            check_coded_size(found)
            stored = np.asarray(found.pixel_array).reshape(-1, *frame.size)
        if len(stored) < last:
            raise ValueError(f"found {len(stored)} frames, expected {last}")
        return scaled(stored, found)
    except Exception as error:  # pydicom and the decoders raise many kinds
        text = first_line(error)
        if "plugins are missing" in text or "missing dependencies" in text:
            text = f"compressed, and no decoder is installed; pip install {EXTRAS['dicom']}"
        elif "raised by all available plugins" in text:
            text = "no decoder can read the compressed image"
        raise UserError(f"{frame.file}: its pixels are not readable ({text}); export it again") from error


def scaled(stored: np.ndarray, found: Any) -> np.ndarray:
    """Stored values times slope plus intercept, each frame with its own."""
    if "ModalityLUTSequence" in found:
        raise ValueError("found a table of values (Modality LUT), expected slope and intercept")
    shared = (found.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = found.get("PerFrameFunctionalGroupsSequence") or [None] * len(stored)
    pairs = [slope_and_intercept(group, shared, found) for group in groups]
    if all(pair == (1.0, 0.0) for pair in pairs):
        return stored
    factors, offsets = np.array(pairs, np.float64).T.reshape(2, -1, 1, 1)
    if not np.isfinite([factors, offsets]).all():
        raise ValueError("slope or intercept is no finite number")
    return (stored * factors + offsets).astype(np.float32)


def slope_and_intercept(group: Any, shared: Any, found: Any) -> tuple[float, float]:
    holder = found
    for part in (shared, group):
        if part is not None and part.get("PixelValueTransformationSequence"):
            holder = part.PixelValueTransformationSequence[0]
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    return (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))


def check_coded_size(found: Any) -> None:
    """Refuses a compressed image whose own header promises another size: a decoder would reserve memory for it."""
    if not found.file_meta.TransferSyntaxUID.is_compressed or found.file_meta.TransferSyntaxUID.is_deflated:
        return
    from pydicom.encaps import generate_frames

    count = int(found.get("NumberOfFrames") or 1)
    for content in generate_frames(found.PixelData, number_of_frames=count):
        size = coded_size(content)
        if size is not None and size != (found.Rows, found.Columns):
            raise ValueError(
                f"the compressed image has {size[0]} x {size[1]} pixels, its header {found.Rows} x {found.Columns}"
            )


def coded_size(content: bytes) -> tuple[int, int] | None:
    """Rows and columns in the header of a JPEG, JPEG-LS or JPEG 2000 image; None for other formats."""
    at = content.find(SIZE_OF_IMAGE, 0, 4096)
    if at >= 0:
        x1, y1, x0, y0 = (int.from_bytes(content[at + 8 + 4 * i : at + 12 + 4 * i], "big") for i in range(4))
        return y1 - y0, x1 - x0
    if content[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        if content[at + 1] in START_OF_FRAME:
            return int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None
