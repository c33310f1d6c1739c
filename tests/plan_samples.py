"""Small data sets for the tests of the plan, each with a property that a plan has to find."""

from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.core.files import write_json

NAMES = ("background", "organ")


def hand(rng: np.random.Generator, shape: tuple, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image that is bright on one side, with an organ there, and its label map."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    middle = np.array([0.25, -0.1, 0.0]) + rng.normal(0, 0.03, 3)
    label = (((grid - middle[:, None, None, None]) / 0.35) ** 2).sum(axis=0) < 1
    image = 100 * grid[0] + 200 * label + rng.normal(0, 20, shape)
    return tuple(np.flip(part, 0) if mirrored else part for part in (image, label))


def write_set(
    folder: Path,
    cases: int = 12,
    shape: tuple = (30, 34, 28),
    spacing: tuple = (1.0, 1.0, 1.0),
    both_hands: bool = False,
    codes: str = "RAS",
    labelled: bool = True,
) -> Path:
    """Writes a data set in the layout of the Decathlon.

    Args:
        folder: receives it.
        cases: their number, each a patient.
        shape: voxels along R, A and S.
        spacing: their sides.
        both_hands: whether every other case is a mirror image.
        codes: how the files are oriented.
        labelled: whether the label maps have the organ.
    """
    rng = np.random.default_rng(0)
    affine = np.diag([*spacing, 1.0])
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    for number in range(cases):
        image, label = hand(rng, shape, mirrored=both_hands and number % 2 == 1)
        for kind, values, dtype in (("images", image, np.int16), ("labels", label * labelled, np.uint8)):
            file = folder / f"{kind}Tr" / f"case_{number:02}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values.astype(dtype), affine).as_reoriented(turn), file)
    labels = {str(value): name for value, name in enumerate(NAMES)}
    listed = [
        {"image": f"./imagesTr/case_{n:02}.nii.gz", "label": f"./labelsTr/case_{n:02}.nii.gz"} for n in range(cases)
    ]
    write_json({"name": "organ", "labels": labels, "training": listed}, folder / "dataset.json")
    return folder
