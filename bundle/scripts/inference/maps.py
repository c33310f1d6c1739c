"""The files of maps, such as the label map: NIfTI on the grid of the image and with its header, or pictures."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.core.errors import UserError
from scripts.core.files import flush, replace_file
from scripts.data.label_maps import grid_fault, read_labels, read_volume
from scripts.data.names import case_name
from scripts.data.slices import (
    is_picture,
    is_sliced,
    picture_pattern,
    remove_pictures,
    write_label_pictures,
    write_pictures,
)
from scripts.series.index import is_series
from scripts.series.reader import read_grid
from scripts.series.stack import nifti_image, turned_like

SEG, DOUBT = "seg", "doubt"  # kinds of maps, and ends of their names
DESCRIPTIONS = {SEG: b"label map, research use only", DOUBT: b"doubt in percent, research use only"}
PARTIAL = ".partial"  # folder of files that are not complete


class CaseMaps:
    """Writes the maps of a case.

    Args:
        folder: of the results.
        source: path of the image.
        shown: the name of the case in the names of the files.
    """

    def __init__(self, folder: Path, source: Path, shown: str):
        self.folder, self.source, self.shown = folder, source, shown
        self.slices: np.ndarray | None = None
        if is_sliced(source):
            self.slices, self.affine = read_volume(source)
            self.header, self.shape = nib.Nifti1Header(), self.slices.shape
        else:
            self.header, self.affine, self.shape = grid_of(source)

    def image(self) -> np.ndarray:
        return read_volume(self.source)[0] if self.slices is None else self.slices

    def write_labels(self, labels: np.ndarray, classes: int) -> str:
        """Writes the label map; returns its name. A NIfTI file is in its place only after `publish`."""
        if is_picture(self.source):
            return write_label_pictures(labels.reshape(self.shape), self.source, self.folder, self.shown, classes)
        return self.write(labels, SEG, classes - 1)

    def write_doubt(self, percent: np.ndarray | None) -> None:
        """Writes how doubtful the labels are; without any looks it removes the files of an earlier run."""
        if percent is None:
            remove_pictures(self.folder / map_name(self.source, self.shown, DOUBT))
        elif is_picture(self.source):
            write_pictures(percent.reshape(self.shape), self.source, self.folder, self.shown, DOUBT)
        else:
            self.publish(self.write(percent, DOUBT, 100))

    def write(self, values: np.ndarray, kind: str, highest: int) -> str:
        """Writes a NIfTI file of small whole numbers among those that are not complete; returns its name.

        Args:
            values: of the voxels.
            kind: of the map.
            highest: value that viewers show.
        """
        header = self.header.copy()
        header.set_data_dtype(np.uint8)
        header["descrip"] = DESCRIPTIONS[kind]
        header["cal_min"], header["cal_max"] = 0, highest
        if self.shown != case_name(self.source):  # it is a code; these fields may hold a name
            for field in {"db_name", "aux_file", "intent_name"} & set(header.keys()):  # NIfTI-2 has not all of them
                header[field] = b""
            header.extensions.clear()
        name = map_name(self.source, self.shown, kind)
        nib.save(nib.Nifti1Image(values.reshape(self.shape), self.affine, header), self.folder / PARTIAL / name)
        return name

    def publish(self, name: str) -> None:
        """Moves a complete file to its place, once it is on disk. Pictures are there already."""
        ready = self.folder / PARTIAL / name
        if ready.exists():
            flush(ready)
            replace_file(ready, self.folder / name)


def map_name(source: Path, shown: str, kind: str) -> str:
    """The name of a map, with * for the number if it is a stack of pictures."""
    return picture_pattern(source, shown, kind) if is_picture(source) else f"{shown}_{kind}.nii.gz"


def read_map(file: Path, source: Path, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The label map of an image, and its affine. A person may have corrected the file.

    Raises:
        UserError: it is no longer a label map of these classes, or not on the grid of the image.
    """
    labels, affine = read_labels(file, class_names)
    if is_sliced(source):
        return labels, affine
    _, expected, shape = grid_of(source)
    if is_series(source):
        labels, affine = turned_like(labels, affine, expected)
    if fault := grid_fault(file, (labels.shape, affine), (shape[:3], expected), source.name):
        raise UserError(fault)
    return labels, affine


def grid_of(source: Path) -> tuple[nib.Nifti1Header, np.ndarray, tuple[int, ...]]:
    """The header, the affine and the shape of a volume, for the maps that belong to it."""
    if not is_series(source):
        image = nib.load(source)
        return image.header.copy(), image.affine, image.shape
    shape, affine = read_grid(source)
    return nifti_image(np.broadcast_to(np.uint8(0), shape), affine).header, affine, shape
