"""Scans that lie on disk slice by slice: PNG and TIFF pictures, and NIfTI files of two axes.

The slices of a scan are one volume, slices along its last axis, and a path with * in place of the slice's number names
them all: `keras_slices_test/case_040_week_0_slice_*.nii.gz`. A path without * is a slice by itself.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import NibabelReader
from monai.utils import ensure_tuple
from PIL import Image

from scripts.core.errors import UserError
from scripts.core.files import atomic_write

PICTURES = (".png", ".tif", ".tiff")
NIFTI_SLICE = re.compile(r"slice_(\d+|\*).*\.nii(\.gz)?$", re.IGNORECASE)
MODES = {"L": "grey, 8 bit", "I;16": "grey, 16 bit", "RGB": "colour, 8 bit"}
OTHER_MODES = {"P": "a palette", "1": "one bit a pixel", "RGBA": "a channel of transparency", "LA": "transparency"}
LARGEST_PIXELS = 2**26
LARGEST_FILE = 2**29  # bytes
IN_MASK = 255  # what a mask of two values has for its class

# Of a picture, rows go from front to back and columns from right to left, as radiologists look at a slice. NIfTI
# slices are taken to be sagittal, as HipMRI's are: first axis front to back, second foot to head, slices right to left.
PICTURE_AXES = np.diag([-1.0, -1.0, 1.0, 1.0])
SAGITTAL_AXES = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)


def is_sliced(path: str | Path) -> bool:
    name = Path(path).name
    return is_picture(name) or bool(NIFTI_SLICE.search(name))


def refuse_unread(path: str | Path, reader: str | None) -> None:
    """Refuses slices where the configuration names no reader for them: it is made for volumes."""
    if reader is None and is_sliced(path):
        raise UserError(
            f"{path}: found slices, expected a volume; this configuration is for volumes, add a recipe for slices "
            "to --config_file, as configs/recipe_hipmri_2d.json"
        )


def is_picture(path: str | Path) -> bool:
    return Path(path).name.lower().endswith(PICTURES)


def numbered(path: str | Path) -> dict[int, Path]:
    """The files of a stack by their numbers, in order; a slice by itself has number 0."""
    path = Path(path)
    head, star, tail = path.name.partition("*")
    if not star:
        return {0: path}
    name = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    inside = path.parent.iterdir() if path.parent.is_dir() else ()
    found = {int(match[1]): file for file in inside if (match := name.fullmatch(file.name))}
    return dict(sorted(found.items()))


def members(path: str | Path) -> list[Path]:
    """The files of a stack in order; any other path is the only one of its own."""
    return list(numbered(path).values())


def exists(path: str | Path) -> bool:
    """Whether there is such a file, or at least one of such a stack."""
    found = members(path)
    return bool(found) and found[0].is_file()


def read(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """A stack as a volume of three axes, or four with colours on the last, and its affine.

    A grey volume of 0 and 255 and nothing between is a mask; it is read as 0 and 1.

    Raises:
        UserError: the first slice that is not readable, of another kind or size, or missing between others.
    """
    found = numbered(path)
    if not found:
        raise UserError(f"{path}: no such slices; expected files with a number in place of *")
    first, *_ = found.values()
    kept: list[np.ndarray] = []
    affine = np.eye(4)
    for file, (values, axes) in ((file, slice_of(file)) for file in found.values()):
        if kept and values.shape != kept[0].shape:
            raise UserError(
                f"{file}: found {shown_size(values)}, expected {shown_size(kept[0])} as {first.name} has; "
                "slices of one scan are of one size, mend it or move the scan away"
            )
        affine = axes if not kept else affine
        kept.append(values)
    gap = next((number for number in range(min(found), max(found)) if number not in found), None)
    if gap is not None:
        raise UserError(f"{path}: slice {gap} is missing between {min(found)} and {max(found)}; add it")
    values = np.stack(kept, axis=2)
    if values.dtype == np.uint8 and values.ndim == 3 and not np.isin(values, (0, IN_MASK), invert=True).any():
        values = values // IN_MASK
    return values, affine


def shown_size(values: np.ndarray) -> str:
    colours = f", {values.shape[2]} channels" if values.ndim == 3 else ""
    return f"{values.shape[0]} x {values.shape[1]} pixels{colours}"


def slice_of(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """One slice, and the affine of a volume that begins with it."""
    try:
        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= LARGEST_FILE:
            raise ValueError(f"found no file of 1 to {LARGEST_FILE} bytes")
        return picture(file) if is_picture(file) else nifti_slice(file)
    except UserError:
        raise
    except Exception as error:  # Pillow and nibabel raise many kinds for a file that is not whole
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(str(file), "")[:100]
        raise UserError(f"{file}: not readable ({reason}); copy or write it again") from error


def picture(file: Path) -> tuple[np.ndarray, np.ndarray]:
    with Image.open(file) as image:
        mode, (width, height) = image.mode, image.size
        if width * height > LARGEST_PIXELS:
            raise UserError(f"{file}: found {width} x {height} pixels, expected {LARGEST_PIXELS} at most; crop it")
        if mode not in MODES:
            raise UserError(
                f"{file}: found {OTHER_MODES.get(mode, f'mode {mode}')}, expected one of: {', '.join(MODES.values())}; "
                "write it again so"
            )
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise UserError(f"{file}: found {frames} pictures in it, expected one; write one file a slice")
        image.verify()  # checksums, where the format has any
    with Image.open(file) as image:
        return np.asarray(image).swapaxes(0, 1), PICTURE_AXES.copy()


def nifti_slice(file: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(file)
    shape = image.shape
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 2:
        raise UserError(f"{file}: found shape {image.shape}, expected a slice of two axes; a volume has another name")
    if np.prod(shape, dtype=float) > LARGEST_PIXELS:
        raise UserError(f"{file}: found shape {image.shape}, expected {LARGEST_PIXELS} pixels at most; crop it")
    values = np.asanyarray(image.dataobj).reshape(shape)
    if not np.isfinite(values).all():
        raise UserError(f"{file}: found values that are not finite (NaN or infinite); write it again without them")
    first, second = (float(size) if 0 < size < np.inf else 1.0 for size in image.header["pixdim"][1:3])
    # How far the next slice is, a file of two axes can't say: as far as HipMRI's, whose x and y are spaced alike.
    return values, SAGITTAL_AXES @ np.diag([first, second, first, 1.0])


def save(labels: np.ndarray, source: str | Path, folder: Path, case: str, classes: int) -> str:
    """Writes a label map as pictures like those it was made from; with one class it is 0 and 255.

    Args:
        labels: volume, slices along the last axis.
        source: path of the pictures.
        folder: that takes the result.
        case: name of the result, where the source's must not be seen.
        classes: number of classes, background included.

    Returns:
        The name of the result in the folder, with * where it is several files.
    """
    stacked = "*" in Path(source).name
    values = (labels * (IN_MASK if classes == 2 else 1)).astype(np.uint8)
    ending = Path(source).suffix
    for depth, number in enumerate(numbered(source)):
        name = f"{case}_{number}_seg{ending}" if stacked else f"{case}_seg{ending}"
        with atomic_write(folder / name) as partial:
            Image.fromarray(values[..., depth].swapaxes(0, 1)).save(
                partial, "png" if ending.lower() == ".png" else "tiff"
            )
    return f"{case}_*_seg{ending}" if stacked else f"{case}_seg{ending}"


class SliceReader(NibabelReader):
    """MONAI's reader of NIfTI volumes that takes slices and stacks of them as well."""

    def verify_suffix(self, filename: Sequence[str] | str) -> bool:
        return all(is_sliced(name) for name in ensure_tuple(filename)) or super().verify_suffix(filename)

    def read(self, data: Sequence[str] | str, **kwargs):
        (name,) = ensure_tuple(data)
        return read(name) if is_sliced(name) else super().read(data, **kwargs)

    def get_data(self, img) -> tuple[np.ndarray, dict]:
        if not isinstance(img, tuple):
            return super().get_data(img)
        values, affine = img
        return values, {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.array(values.shape[:3]),
            "original_channel_dim": -1 if values.ndim == 4 else float("nan"),
            "space": "RAS",
        }
