"""A small scene of bones and organs, drawn on any grid: shapes are in millimetres towards left, back and head."""

from pathlib import Path

import numpy as np
from helpers import save_labels
from scipy.spatial.transform import Rotation

from scripts.weeks.rigid import STAY, Rigid

NAMES = ["background", "body", "bones", "bladder", "prostate"]
SHAPE = (40, 36, 32)
VOXEL = 4.0
CENTRES = {"bladder": (0.0, -12.0, 14.0), "prostate": (4.0, -6.0, -16.0)}
RADII = {"bladder": 18.0, "prostate": 12.0}
BONES = (  # centre and radii: nothing of it is symmetric
    ((46, 6, 0), (12, 18, 34)),
    ((-44, 10, 6), (14, 14, 26)),
    ((4, 44, 10), (30, 9, 40)),
    ((20, -46, -22), (22, 8, 8)),
)


def affine_of(orientation: str = "RAS", shape=SHAPE, voxel: float = VOXEL) -> np.ndarray:
    """An affine whose array axes point towards these letters; a `~` at the end turns the grid out of the axes."""
    letters = {"R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1), "L": (-1, 0, 0), "P": (0, -1, 0), "I": (0, 0, -1)}
    axes = np.array([letters[letter] for letter in orientation[:3]], float).T
    if orientation.endswith("~"):
        axes = Rotation.from_euler("xyz", [14, -9, 11], degrees=True).as_matrix() @ axes
    affine = np.eye(4)
    affine[:3, :3] = voxel * axes
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2 + (3, -5, 7)
    return affine


def shape_of(orientation: str) -> tuple[int, ...]:
    """The voxels along axes that point towards these letters."""
    return tuple(
        SHAPE[next(axis for axis, pair in enumerate(("RL", "AP", "SI")) if a in pair)] for a in orientation[:3]
    )


def draw(affine=None, shape=SHAPE, motion: Rigid = STAY, moved=None, radii=None, bones=BONES) -> np.ndarray:
    """The label map of a patient who was moved, and whose organs were moved before that.

    Args:
        affine: of the grid.
        shape: voxels of the grid.
        motion: of the whole patient, in mm towards left, back and head.
        moved: shift of organs by name, relative to the bones.
        radii: of organs by name, where they are not the usual ones.
        bones: centres and radii of ellipsoids.
    """
    affine = affine_of() if affine is None else affine
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    points = (voxels @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
    points = motion.inverse()(points)
    labels = np.ones(shape, np.uint8)
    for centre, size in bones:
        labels[(((points - centre) / size) ** 2).sum(-1) < 1] = 2
    for name, centre in CENTRES.items():
        place = np.array(centre) + (moved or {}).get(name, 0)
        labels[np.linalg.norm(points - place, axis=-1) < (radii or {}).get(name, RADII[name])] = NAMES.index(name)
    return labels


def turned(degrees, shift) -> Rigid:
    return Rigid(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), np.array(shift, float))


def write(folder: Path, name: str, affine=None, shape=SHAPE, **scene) -> Path:
    affine = affine_of() if affine is None else affine
    return save_labels(folder / f"{name}.nii.gz", draw(affine, shape, **scene), affine)
