"""NIfTI files of maps, such as label maps, on the grid of an image and with its header."""

from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.series.index import is_series
from scripts.series.reader import read_grid
from scripts.series.stack import nifti_image

DESCRIPTIONS = {"seg": b"label map, research use only", "doubt": b"doubt in percent, research use only"}  # of a kind


def grid_of(source: Path) -> tuple[nib.Nifti1Header, np.ndarray, tuple[int, ...]]:
    """The header, the affine and the shape of a volume, for the maps that belong to it."""
    if not is_series(source):
        image = nib.load(source)
        return image.header.copy(), image.affine, image.shape
    shape, affine = read_grid(source)
    return nifti_image(np.broadcast_to(np.uint8(0), shape), affine).header, affine, shape


def write_map(
    values: np.ndarray, affine: np.ndarray, header, file: Path, kind: str, highest: int, anonymous: bool
) -> None:
    """Writes a map of small whole numbers.

    Args:
        values: of the voxels.
        affine: of the image.
        header: of the image; it is not changed.
        file: that is written.
        kind: of the map, for its description.
        highest: value that viewers show.
        anonymous: whether fields that may hold a name are emptied.
    """
    header = header.copy()
    header.set_data_dtype(np.uint8)
    header["descrip"] = DESCRIPTIONS[kind]
    header["cal_min"], header["cal_max"] = 0, highest
    if anonymous:
        for field in {"db_name", "aux_file", "intent_name"} & set(header.keys()):  # NIfTI-2 has not all of them
            header[field] = b""
        header.extensions.clear()
    nib.save(nib.Nifti1Image(values, affine, header), file)
