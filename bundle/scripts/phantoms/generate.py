"""Synthetic MR images with labels, for demonstrations and tests. They show no patient and contain no data of any.

`python -m scripts.phantom` writes weekly scans of the male pelvis, in the folders and with the names of HipMRI.
`--layout cardiac_png` and `--layout lgg_tiff` write hearts and brain tumours. The same arguments write the same bytes.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.core.errors import UserError
from scripts.core.files import atomic_write, write_json
from scripts.phantoms.brain import make_brain
from scripts.phantoms.heart import make_heart
from scripts.phantoms.layouts import LAYOUTS, decathlon_listing, dicom_headers, volume_affine
from scripts.phantoms.pelvis import draw_build, draw_filling, render_pelvis
from scripts.phantoms.shapes import Waves, frame, voxel_mm
from scripts.series.writer import write_series

CLASSES = ("background", "body", "bones", "bladder", "rectum", "prostate")

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
    """Makes one scan of a pelvis; the same arguments give the same arrays.

    Args:
        patient, week, seed: integers from 0. Body and prostate of a patient are the same in every week.
        size: voxels along L, P and S; the field of view is always 430 x 430 x 200 mm.

    Returns:
        image (int16, counts from 0 to about 1500) and label (uint8, index into `CLASSES`), both indexed [L, P, S].
    """
    build, filling, tissue_rng, scan_rng = draw_scan(patient, week, seed)
    signals = {
        tissue: mean * np.exp(SIGNAL_SPREAD * (tissue_rng.normal() + scan_rng.normal()))
        for tissue, mean in SIGNALS.items()
    }
    label, signal = render_pelvis(size, build, filling, signals)
    return acquire(signal, scan_rng), label


def draw_scan(patient, week, seed=0):
    """Returns the build and the filling of a scan, and the random generators of its tissues and of its noise."""
    build_rng, tissue_rng = np.random.default_rng([seed, patient, 0, 0]).spawn(2)
    filling_rng, scan_rng = np.random.default_rng([seed, patient, 1, week]).spawn(2)
    return draw_build(build_rng), draw_filling(filling_rng), tissue_rng, scan_rng


def true_motion(patient, week, seed=0):
    """Returns what takes a point of a scan to where the same point of bone lies in week 0: `turn @ point + shift`.

    Points are in mm towards left, back and head, from the middle of the field.
    """
    (first_turn, first_shift), (turn, shift) = (frame(*draw_scan(patient, w, seed)[:2]) for w in (0, week))
    back = first_turn.T @ turn
    return back, first_shift - back @ shift


def acquire(signal, rng, bias=BIAS, noise=NOISE):
    """Turns tissue signal (fat is about 1) into an image, with an uneven coil, Rician noise and an arbitrary gain.

    Args:
        signal: array of tissue signal, [L, P, S].
        rng: random generator.
        bias: largest relative change of the signal over the field, in [0, 1).
        noise: standard deviation of the noise in the real and the imaginary channel, relative to fat.
    """
    gain = rng.uniform(*GAIN)
    coil = 1 + bias * np.tanh(Waves.draw(rng, 350, 800, 6).on(signal.shape))
    real, imaginary = (noise * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
    return np.rint(gain * np.hypot(signal * coil + real, imaginary)).astype(np.int16)


def generate(
    output_dir: str,
    patients: int = 8,
    scans: int | None = None,
    size: Sequence[int] | None = None,
    seed: int = 0,
    layout: str = "hipmri",
    first_patient: int = 4,
    slices: int | None = None,
) -> list[tuple]:
    """Writes phantoms, their labels and `phantom.json`, which records the arguments.

    Example: python -m scripts.phantom --output_dir DIR --patients 8 --scans 2 --size "(64,64,32)"

    Args:
        output_dir: folder; it is created if needed, and files of the same name are replaced.
        patients: number of patients, at least 1, or 3 if the layout divides them into training, validation and test.
        scans: number of scans per patient, by default 2: weeks of a pelvis, phases of a heart. A brain has one.
        size: voxels along L, P and S, each from 16 to 512, by default (64,64,32); HipMRI has (256,256,128). For
            cardiac_png and lgg_tiff: rows and columns, by default (96,96) and (256,256).
        seed: 0 or more; another seed gives other patients.
        layout: hipmri, hipmri_short, decathlon or dicom; 2D: keras_slices (of the pelvis), cardiac_png or lgg_tiff.
        first_patient: number of the first patient. Patient 5 is the same person, whoever else is written.
        slices: number of slices per scan. keras_slices: the middle ones, by default all; lgg_tiff: by default 24.

    Returns:
        Pairs of image path and label path; the label is None if the layout does not publish it.
    """
    kind = _find_layout(layout)
    size, scans = kind.size if size is None else size, kind.scans if scans is None else scans
    _check_size(size, kind)
    least = len(kind.sides) or 1
    _check_counts(patients=(patients, least), scans=(scans, 1), seed=(seed, 0), first_patient=(first_patient, 0))
    slices = _checked_slices(slices, layout, size)
    if kind.anatomy == "brain" and scans != 1:
        raise UserError(f"scans: found {scans}, expected 1: {layout} has one scan of a patient; leave --scans out")
    root, voxel, pairs = Path(output_dir), voxel_mm(size) if len(size) == 3 else None, []
    keys = [(patient, week) for patient in range(first_patient, first_patient + patients) for week in range(scans)]
    for patient, week in tqdm(keys, desc="phantoms", unit="scan", disable=None):
        side = kind.side(patient - first_patient, patients)
        names = {"patient": patient, "week": week, "side": side, "scan": patient * scans + week + 1}
        for index, arrays in enumerate(make_images(kind, patient, week, tuple(size), seed, slices)):
            paths = [root / name.format(**names, slice=index, number=index + 1) for name in (kind.image, kind.label)]
            if side and side == kind.unlabelled:
                paths[1] = None
            for path, array in zip(paths, arrays, strict=True):
                if path and kind.dicom and path == paths[0]:
                    write_series(array, volume_affine(array.shape, voxel), path, **dicom_headers(patient, week))
                elif path:
                    write_file(path, kind.encode(array, voxel))
            pairs.append(tuple(paths))
    if layout == "decathlon":
        write_json(decathlon_listing(root, pairs, CLASSES), root / "dataset.json")
    made = {"patients": patients, "scans": scans, "size": list(size), "seed": seed, "layout": layout}
    made |= {"first_patient": first_patient} | ({"slices": slices} if slices else {})
    write_json({"description": kind.description, **made}, root / "phantom.json")
    return pairs


def make_images(kind, patient, week, size, seed, slices):
    """Yields the images of one scan, each with its label, as the files of the layout contain them.

    Args:
        kind: a `Layout`.
        patient, week, size, seed: as for `make_scan`.
        slices: number of slices if the layout has slices. Of a pelvis they are the middle ones along L, each indexed
            [P, S].
    """
    if kind.anatomy == "heart":
        yield make_heart(patient, week, size, seed)
    elif kind.anatomy == "brain":
        image, label = make_brain(patient, slices, size, seed)
        yield from zip(image, 255 * label, strict=True)
    elif slices:
        first = (size[0] - slices) // 2
        yield from zip(*(array[first : first + slices] for array in make_scan(patient, week, size, seed)), strict=True)
    else:
        yield make_scan(patient, week, size, seed)


def write_file(path, content):
    """Writes bytes to a file, atomically."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def _find_layout(layout):
    if layout not in LAYOUTS:
        nearest = difflib.get_close_matches(layout, LAYOUTS, cutoff=0.3) or LAYOUTS
        raise UserError(f"layout: found {layout!r}, expected one of {', '.join(LAYOUTS)}: try {' or '.join(nearest)}")
    return LAYOUTS[layout]


def _check_size(size, kind):
    axes = len(kind.size)
    if not (isinstance(size, tuple | list) and len(size) == axes and all(_is_int(n) and 16 <= n <= 512 for n in size)):
        words, usual = {2: "two", 3: "three"}[axes], ",".join(map(str, kind.size))
        raise UserError(f'size: found {size!r}, expected {words} whole numbers from 16 to 512: try --size "({usual})"')


def _checked_slices(slices, layout, size):
    usual = LAYOUTS[layout].slices
    if usual == 0 and slices is not None:
        raise UserError(f"slices: found {slices!r}, expected none: {layout} is not cut into slices; leave --slices out")
    if slices is None:
        return size[0] if usual is None else usual
    _check_counts(slices=(slices, 1))
    most = size[0] if usual is None else 512
    if slices > most:
        raise UserError(f"slices: found {slices}, expected at most {most}: try --slices {most}")
    return slices


def _check_counts(**counts):
    for name, (value, lowest) in counts.items():
        if value < lowest:
            raise UserError(f"{name}: found {value}, expected at least {lowest}: try --{name} {lowest}")


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def summary_line(pairs):
    """Returns the last line that the command prints."""
    labels = sum(label is not None for _, label in pairs)
    common = os.path.commonpath([path.parent for pair in pairs for path in pair if path])
    return f"wrote {len(pairs)} synthetic images and {labels} labels to {common}"
