"""The slices of a series in space, and the way of a volume to them and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from scripts.core.errors import UserError

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts to the left and the back, NIfTI to the right and the front
GRID_TOLERANCE_MM = 0.1  # rounding in a header may move a corner of a volume by this much


@dataclass(frozen=True)
class Stack:
    """The slices of one series.

    A volume of a stack is indexed [column, row counted from the last, slice]: the order in which dcm2niix writes it.

    Attributes:
        headers: headers of the files, without pixels: one for each slice, or one file of all slices.
        frames: for every slice, in order along the normal, the index of its header and the number of its frame, from 1.
        affine: from (column, row, slice) to the centre of the pixel in DICOM's millimetres.
        rows: of a slice.
        columns: of a slice.
        name: of the series, for messages.
    """

    headers: list[Any]
    frames: list[tuple[int, int]]
    affine: np.ndarray
    rows: int
    columns: int
    name: str = "the series"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a volume, and in this order also columns, rows and slices."""
        return self.columns, self.rows, len(self.frames)

    @property
    def nifti_affine(self) -> np.ndarray:
        """From the indices of a volume to NIfTI's millimetres."""
        turned = np.eye(4)
        turned[1, 1], turned[1, 3] = -1, self.rows - 1
        return TO_RAS @ self.affine @ turned

    def to_volume(self, frames: np.ndarray) -> np.ndarray:
        """A volume from an array indexed [slice, row, column]."""
        return np.asarray(frames).transpose(2, 1, 0)[:, ::-1]

    def to_frames(self, labels: np.ndarray, affine: np.ndarray, name: str = "the label map") -> np.ndarray:
        """An array indexed [slice, row, column] from a volume on this grid, in any order and direction of its axes.

        Args:
            labels: the volume.
            affine: from its indices to NIfTI's millimetres.
            name: of the volume, for messages.

        Raises:
            UserError: it is on another grid.
        """
        turned, placed = turned_like(labels, affine, self.nifti_affine)
        if turned.shape != self.shape:
            raise UserError(
                f"{name}: found {labels.shape} voxels, expected those of {self.name}, {self.shape}; make it on the "
                "grid of the series"
            )
        furthest = furthest_corner_mm(self.shape, placed, self.nifti_affine)
        if furthest > GRID_TOLERANCE_MM:
            raise UserError(
                f"{name}: its header puts a corner {furthest:.2f} mm from where {self.name} has it, expected at most "
                f"{GRID_TOLERANCE_MM}; make it on the grid of the series"
            )
        return np.ascontiguousarray(turned[:, ::-1].transpose(2, 1, 0))


def furthest_corner_mm(shape: Sequence[int], first: np.ndarray, second: np.ndarray) -> float:
    """Returns the largest distance between the positions that two affines give the same corner of a volume."""
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])], float)
    return float(np.linalg.norm(corners @ (np.asarray(first) - np.asarray(second)).T, axis=1).max())


def nifti_image(volume: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """A volume of a series as NIfTI, in millimetres of the scanner, in both forms that NIfTI has for a place."""
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    return image


def turned_like(labels: np.ndarray, affine: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume with its axes in the order and the directions of another one; every voxel keeps its place.

    DICOM knows no order of axes, so a label map of a series may have any.

    Args:
        labels: the volume.
        affine: of it.
        other: affine of the other one.
    """
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.io_orientation(other)
    )
    turned = nib.orientations.apply_orientation(labels, turn)
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, labels.shape)
