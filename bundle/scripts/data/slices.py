"""Scans that are stored slice by slice: PNG and TIFF pictures, and NIfTI files of two axes.

The slices of a scan are read as one volume, with the slices along its last axis. A path with * in place of the slice's
number means all of them: `keras_slices_test/case_040_week_0_slice_*.nii.gz`. A path without * is a single slice.

The configurations for slices name `SliceReader`; the datalist, the data check and the writer use the functions.
"""

import os
import re
import stat
from bisect import bisect_left
from collections.abc import Collection, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import NibabelReader
from monai.utils import ensure_tuple
from PIL import Image

from scripts.core.errors import UserError
from scripts.core.files import atomic_write
from scripts.series.index import is_series, named_series

PICTURES = (".png", ".tif", ".tiff")
NIFTI_SLICE = re.compile(r"slice_(\d+|\*)(_.*)?\.nii(\.gz)?$", re.IGNORECASE)  # slice_3mm is no slice
MODES = {"L": "grey, 8 bit", "I;16": "grey, 16 bit", "RGB": "colour, 8 bit"}
OTHER_MODES = {"P": "a palette", "1": "one bit a pixel", "RGBA": "a channel of transparency", "LA": "transparency"}
LARGEST_PIXELS = 2**26
LARGEST_FILE = 2**29  # bytes
MASK_VALUE = 255  # value of the class in a mask of two values

# The rows of a picture go from front to back and its columns from right to left, as radiologists look at a slice. NIfTI
# slices are assumed to be sagittal, as HipMRI's: first axis front to back, second foot to head, slices right to left.
PICTURE_AXES = np.diag([-1.0, -1.0, 1.0, 1.0])
SAGITTAL_AXES = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)


class FolderNames:
    """The sorted names in folders; each folder is listed once.

    Make a new one for every pass over a data set: it does not see files that are added or removed later.
    """

    def __init__(self) -> None:
        self.names: dict[Path, list[str]] = {}

    def starting_with(self, folder: Path, start: str) -> list[str]:
        """Returns the names in a folder that begin with `start`; none if there is no such folder."""
        if folder not in self.names:
            self.names[folder] = sorted(os.listdir(folder)) if folder.is_dir() else []
        names = self.names[folder]
        first = last = bisect_left(names, start)
        while last < len(names) and names[last].startswith(start):
            last += 1
        return names[first:last]


def is_sliced(path: str | Path) -> bool:
    """Returns whether the name is that of a slice or of a stack of slices."""
    name = Path(path).name
    return is_picture(name) or bool(NIFTI_SLICE.search(name))


def refuse_what_reader_cannot(path: str | Path, reader: str | None) -> None:
    """Refuses slices if the configuration names no reader for them, because it is made for volumes; and a series if it
    is made for slices."""
    for_slices = reader is not None and reader.endswith(SliceReader.__name__)
    if is_sliced(path) and not for_slices:
        raise UserError(
            f"{path}: found slices, expected a volume; this configuration is for volumes, add a recipe for slices "
            "to --config_file, such as configs/recipe_hipmri_2d.json"
        )
    if is_series(path) and for_slices:
        raise UserError(
            f"{path}: found a DICOM series, expected slices; this configuration is for slices, leave its recipe out "
            "of --config_file"
        )


def is_picture(path: str | Path) -> bool:
    return Path(path).name.lower().endswith(PICTURES)


def slice_files(path: str | Path, listed: FolderNames | None = None) -> dict[int, Path]:
    """Returns the files of a stack by their numbers, in order. A single file has number 0.

    Args:
        path: of the stack, with * for the number, or of a single file.
        listed: for many stacks of one folder, so that the folder is listed once.

    Raises:
        UserError: two files have the same number, such as 1 and 01.
    """
    path = Path(path)
    head, star, tail = path.name.partition("*")
    if not star:
        return {0: path}
    name = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    inside = (listed or FolderNames()).starting_with(path.parent, head)
    found: dict[int, Path] = {}
    for match in filter(None, map(name.fullmatch, inside)):
        file, number = path.with_name(match[0]), int(match[1])
        if number in found:
            raise UserError(
                f"{file}: the same slice {number} as {found[number].name}; expected one file for each, move one away"
            )
        found[number] = file
    return dict(sorted(found.items()))


def scan_files(path: str | Path, listed: FolderNames | None = None) -> list[Path]:
    """Returns the files of a stack in order. For any other path it is the only file."""
    return list(slice_files(path, listed).values())


def scan_exists(path: str | Path, listed: FolderNames | None = None) -> bool:
    """Returns whether the file exists, at least one file of the stack, or the series."""
    if is_series(path):
        return named_series(path) is not None
    found = scan_files(path, listed)
    return bool(found) and found[0].is_file()


def read_slices(path: str | Path, listed: FolderNames | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads a stack as a volume of three axes, or four with the colours on the last, and its affine.

    A grey volume of the values 0 and 255 only is a mask; it is read as 0 and 1.

    Raises:
        UserError: the first slice that is not readable, of another kind or size, or missing between others.
    """
    found = slice_files(path, listed)
    if not found:
        raise UserError(f"{path}: no such slices; expected files with a number in place of *, correct the path")
    first, *_ = found.values()
    kept: list[np.ndarray] = []
    affine = np.eye(4)
    for file, (values, axes) in ((file, read_slice(file)) for file in found.values()):
        if kept and values.shape != kept[0].shape:
            raise UserError(
                f"{file}: found {size_text(values)}, expected {size_text(kept[0])} as {first.name} has; "
                "slices of one scan are of one size, fix it or move the scan away"
            )
        affine = axes if not kept else affine
        kept.append(values)
    gap = next((number for number in range(min(found), max(found)) if number not in found), None)
    if gap is not None:
        raise UserError(f"{path}: slice {gap} is missing between {min(found)} and {max(found)}; add it")
    values = np.stack(kept, axis=2)
    if values.dtype == np.uint8 and values.ndim == 3 and not np.isin(values, (0, MASK_VALUE), invert=True).any():
        values = values // MASK_VALUE
    return values, affine


def size_text(values: np.ndarray) -> str:
    """Returns the size of a slice in words."""
    colours = f", {values.shape[2]} channels" if values.ndim == 3 else ""
    return f"{values.shape[0]} x {values.shape[1]} pixels{colours}"


def read_slice(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one slice, and the affine of a volume that begins with it."""
    try:
        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= LARGEST_FILE:
            raise ValueError(f"expected a file of 1 to {LARGEST_FILE} bytes")
        return read_picture(file) if is_picture(file) else read_nifti_slice(file)
    except UserError:
        raise
    except Exception as error:  # Pillow and nibabel raise many kinds for an incomplete file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(str(file), "")[:100]
        raise UserError(f"{file}: not readable ({reason}); copy or write it again") from error


def read_picture(file: Path) -> tuple[np.ndarray, np.ndarray]:
    with Image.open(file) as image:
        mode, (width, height) = image.mode, image.size
        if width * height > LARGEST_PIXELS:
            raise UserError(f"{file}: found {width} x {height} pixels, expected {LARGEST_PIXELS} at most; crop it")
        if mode not in MODES:
            raise UserError(
                f"{file}: found {OTHER_MODES.get(mode, f'mode {mode}')}, expected one of: {', '.join(MODES.values())}; "
                "write it again in one of these"
            )
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise UserError(f"{file}: found {frames} pictures in it, expected one; write one file a slice")
        image.verify()  # checks the checksums, if the format has any
    with Image.open(file) as image:
        return np.asarray(image).swapaxes(0, 1), PICTURE_AXES.copy()


def read_nifti_slice(file: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(file)
    shape = image.shape
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 2:
        raise UserError(f"{file}: found shape {image.shape}, expected a slice of two axes; rename it if it is a volume")
    if np.prod(shape, dtype=float) > LARGEST_PIXELS:
        raise UserError(f"{file}: found shape {image.shape}, expected {LARGEST_PIXELS} pixels at most; crop it")
    values = np.asanyarray(image.dataobj).reshape(shape)
    if not np.isfinite(values).all():
        raise UserError(f"{file}: found values that are not finite (NaN or infinite); write it again without them")
    first, second = (float(size) if 0 < size < np.inf else 1.0 for size in image.header["pixdim"][1:3])
    # A file of two axes doesn't contain the distance to the next slice. In HipMRI it equals the first spacing.
    return values, SAGITTAL_AXES @ np.diag([first, second, first, 1.0])


def write_label_pictures(labels: np.ndarray, source: str | Path, folder: Path, case: str, classes: int) -> str:
    """Writes a label map as pictures. With two classes, the values are 0 and 255; see `write_pictures`."""
    return write_pictures(labels * (MASK_VALUE if classes == 2 else 1), source, folder, case, "seg")


def write_pictures(volume: np.ndarray, source: str | Path, folder: Path, case: str, word: str) -> str:
    """Writes a volume of whole numbers up to 255 as pictures of the same format as its images.

    Args:
        volume: slices along the last axis.
        source: path of the images.
        folder: folder of the result.
        case: name of the case, from which the names of the files are made.
        word: what it is, for these names.

    Returns:
        The name of the result in the folder, with * for the number if it is a stack.
    """
    values = volume.astype(np.uint8)
    ending, names, pattern = Path(source).suffix, picture_names(source, case, word), picture_pattern(source, case, word)
    remove_pictures(folder / pattern, names)
    for depth, name in enumerate(names):
        with atomic_write(folder / name) as partial:
            Image.fromarray(values[..., depth].swapaxes(0, 1)).save(
                partial, "png" if ending.lower() == ".png" else "tiff"
            )
    return pattern


def remove_pictures(path: Path, kept: Collection[str] = ()) -> None:
    """Removes the pictures of a result, but for some: a stack may have had more slices in an earlier run."""
    for file in scan_files(path):
        if file.name not in kept:
            file.unlink(missing_ok=True)


def picture_pattern(source: str | Path, case: str, word: str) -> str:
    """The name of a result of `write_pictures`, with * for the number if it is a stack."""
    return f"{case}{'_*' if '*' in Path(source).name else ''}_{word}{Path(source).suffix}"


def picture_names(source: str | Path, case: str, word: str) -> list[str]:
    """The names of the files that `write_pictures` writes."""
    pattern = picture_pattern(source, case, word)
    return [pattern.replace("*", str(number)) for number in slice_files(source)]


class SliceReader(NibabelReader):
    """MONAI's reader of NIfTI volumes, which also reads slices and stacks of slices."""

    def verify_suffix(self, filename: Sequence[str] | str) -> bool:
        return all(is_sliced(name) for name in ensure_tuple(filename)) or super().verify_suffix(filename)

    def read(self, data: Sequence[str] | str, **kwargs):
        (name,) = ensure_tuple(data)
        return read_slices(name) if is_sliced(name) else super().read(data, **kwargs)

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
