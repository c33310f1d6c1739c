"""Synthetic T2 MR of the male pelvis with labels, for demonstrations and tests: not patients, and no data set's pixels.

`python -m scripts.phantom --output_dir DIR --patients 8 --scans 2 --size "(64,64,32)"` writes weekly scans in the
folders and under the names that the data list reader knows. The same arguments write the same bytes.
"""

import difflib
import gzip
import json
from pathlib import Path

import fire
import nibabel as nib
import numpy as np
from tqdm import tqdm

from scripts.anatomy import draw_build, draw_filling, render
from scripts.errors import UserError
from scripts.files import whole
from scripts.shapes import FIELD_MM, Waves, voxel_mm

LAYOUTS = {  # image and label, below the output folder
    "hipmri": (
        "semantic_MRs_anon/Case_{patient:03d}_Week{week}_LFOV.nii.gz",
        "semantic_labels_anon/Case_{patient:03d}_Week{week}_SEMANTIC_LFOV.nii.gz",
    ),
    "hipmri_short": (
        "semantic_MRs/C{patient:03d}_Week{week}_LFOV.nii.gz",
        "semantic_labels_only/C{patient:03d}_Week{week}_SEMANTIC.nii.gz",
    ),
    "decathlon": ("imagesTr/Case_{patient:03d}_Week{week}.nii.gz", "labelsTr/Case_{patient:03d}_Week{week}.nii.gz"),
}
CLASSES = ("background", "body", "bones", "bladder", "rectum", "prostate")
DESCRIPTION = "synthetic male-pelvis phantoms, not patients"

SIGNALS = {  # T2 weighted, relative to fat; air is 0
    "fat": 1.0,
    "muscle": 0.22,
    "skin": 0.3,
    "marrow": 0.65,
    "cortex": 0.05,
    "urine": 1.6,
    "bladder_wall": 0.3,
    "bowel_wall": 0.35,
    "stool": 0.45,
    "fluid": 0.9,
    "gas": 0.02,
    "capsule": 0.15,
    "peripheral_zone": 0.95,
    "transition_zone": 0.5,
    "seminal_vesicle": 1.2,
    "vessel": 0.08,
    "vein": 0.8,
}
SIGNAL_SPREAD = 0.04  # standard deviation of the log of a tissue's signal, between patients and again between scans
GAIN = (350, 600)  # counts of fat: MR has no absolute scale
BIAS = 0.3  # greatest relative change by the coil's sensitivity
NOISE = 0.04  # standard deviation in either channel as a share of fat, at any voxel size


def make_scan(patient, week, size=(64, 64, 32), seed=0):
    """Makes one scan; the same arguments give the same arrays.

    Args:
        patient, week, seed: integers from 0; a patient keeps body and prostate over the weeks.
        size: voxels along L, P and S; the field of view stays 430 x 430 x 200 mm.

    Returns:
        image (int16, counts from 0 to about 1500) and label (uint8, index into `CLASSES`), both indexed [L, P, S].
    """
    build_rng, tissue_rng = np.random.default_rng([seed, patient, 0, 0]).spawn(2)
    filling_rng, scan_rng = np.random.default_rng([seed, patient, 1, week]).spawn(2)
    signals = {
        tissue: mean * np.exp(SIGNAL_SPREAD * (tissue_rng.normal() + scan_rng.normal()))
        for tissue, mean in SIGNALS.items()
    }
    label, signal = render(size, draw_build(build_rng), draw_filling(filling_rng), signals)
    return acquire(signal, scan_rng), label


def acquire(signal, rng, bias=BIAS, noise=NOISE):
    """Turns tissue signal (fat about 1) into an image: uneven coil, Rician noise, arbitrary gain.

    Args:
        bias: greatest relative change of the signal over the field, in [0, 1).
        noise: standard deviation of the noise in the real and the imaginary channel, fat being 1.
    """
    gain = rng.uniform(*GAIN)
    coil = 1 + bias * np.tanh(Waves.draw(rng, 350, 800, 6).on(signal.shape))
    real, imaginary = (noise * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
    return np.rint(gain * np.hypot(signal * coil + real, imaginary)).astype(np.int16)


def generate(output_dir, patients=8, scans=2, size=(64, 64, 32), seed=0, layout="hipmri", first_patient=4):
    """Writes phantoms, their labels and `phantom.json`, which tells how they were made.

    Args:
        output_dir: folder, made if missing; files of the same name are replaced.
        patients: at least 1.
        scans: weekly scans of each patient, at least 1; weeks count from 0.
        size: voxels along L, P and S, each from 16 to 512; HipMRI has (256,256,128).
        seed: from 0; other seeds are other patients.
        layout: hipmri, hipmri_short or decathlon.
        first_patient: number of the first patient; patient 5 is the same person whoever else is written.

    Returns:
        Pairs of image path and label path.
    """
    _check(output_dir, size, layout, {"patients": (patients, 1), "scans": (scans, 1)})
    _check_counts({"seed": (seed, 0), "first_patient": (first_patient, 0)})
    root = Path(output_dir)
    keys = [(patient, week) for patient in range(first_patient, first_patient + patients) for week in range(scans)]
    pairs = []
    for patient, week in tqdm(keys, desc="phantoms", unit="scan", disable=None):
        paths = [root / name.format(patient=patient, week=week) for name in LAYOUTS[layout]]
        for path, array in zip(paths, make_scan(patient, week, tuple(size), seed), strict=True):
            write(path, nifti_bytes(array))
        pairs.append(tuple(paths))
    if layout == "decathlon":
        write_json(root / "dataset.json", decathlon_listing(root, pairs))
    made = {"patients": patients, "scans": scans, "size": list(size), "seed": seed, "layout": layout}
    write_json(root / "phantom.json", {"description": DESCRIPTION, **made, "first_patient": first_patient})
    return pairs


def nifti_bytes(array):
    """Returns a .nii.gz file of an array indexed [L, P, S]: no time and no name in it, so equal arrays, equal bytes."""
    voxel = voxel_mm(array.shape)
    # NIfTI's world grows to the right and to the front, the array to the left and to the back: two negative diagonals.
    affine = np.diag([-voxel[0], -voxel[1], voxel[2], 1])
    affine[:3, 3] = (voxel - FIELD_MM) / 2 * (-1, -1, 1)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic phantom, not a patient"
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def decathlon_listing(root, pairs):
    """Returns the contents of a Medical Segmentation Decathlon `dataset.json`."""
    training = [
        {kind: f"./{path.relative_to(root).as_posix()}" for kind, path in zip(("image", "label"), pair, strict=True)}
        for pair in pairs
    ]
    return {
        "name": "male pelvis phantoms",
        "description": DESCRIPTION,
        "licence": "made by a program, no rights reserved",
        "labels": {str(index): name for index, name in enumerate(CLASSES)},
        "numTraining": len(training),
        "training": training,
        "numTest": 0,
        "test": [],
    }


def write_json(path, content):
    """Writes JSON that a person can read."""
    write(path, (json.dumps(content, indent=2) + "\n").encode())


def write(path, content):
    with whole(path) as partial:
        partial.write_bytes(content)


def _check(output_dir, size, layout, counts):
    _check_counts(counts)
    if not (isinstance(size, tuple | list) and len(size) == 3 and all(_is_int(n) and 16 <= n <= 512 for n in size)):
        raise UserError(f'size: found {size!r}, expected three whole numbers from 16 to 512: try --size "(64,64,32)"')
    if layout not in LAYOUTS:
        nearest = difflib.get_close_matches(str(layout), LAYOUTS, cutoff=0.3) or LAYOUTS
        raise UserError(f"layout: found {layout!r}, expected one of {', '.join(LAYOUTS)}: try {' or '.join(nearest)}")
    if Path(output_dir).exists() and not Path(output_dir).is_dir():
        raise UserError(f"output_dir: {output_dir} is a file, expected a folder or a new name: choose another one")


def _check_counts(counts):
    for name, (value, lowest) in counts.items():
        if not _is_int(value) or value < lowest:
            raise UserError(
                f"{name}: found {value!r}, expected a whole number of at least {lowest}: try --{name} {lowest}"
            )


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def main():
    """Runs `generate` with the arguments of the command line."""
    done = "wrote {} synthetic scans and their labels to {}"
    fire.Fire(generate, serialize=lambda pairs: done.format(len(pairs), pairs[0][0].parent.parent))


if __name__ == "__main__":
    main()
