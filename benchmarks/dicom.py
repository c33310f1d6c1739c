"""A phantom as DICOM: seconds to read it; of its SEG and RTSTRUCT seconds, bytes, and how other programs read them.

    python benchmarks/dicom.py [--size 256 256 128] [--repeats 3]

Reading is what inference does with a case before the network: find it, read it, check it. The other programs are dcmqi
(segimage2itkimage) for SEG and plastimatch for RTSTRUCT; one that is not installed is left out. Dice and the distance
of the centroids are those of the organ that agrees least.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from common import BUNDLE, seconds  # noqa: F401  (puts the bundle on the path)
from nibabel.affines import apply_affine

from scripts.check.pictures import inspect_image
from scripts.data.datalist import list_images
from scripts.data.digests import sha256_of_files
from scripts.dicom.about import about_bundle
from scripts.dicom.commands import WRITERS, bundle_classes
from scripts.dicom.masks import read_masks
from scripts.dicom.reading import open_structures
from scripts.phantoms import generate
from scripts.series import index
from scripts.series.reader import read_stack
from scripts.series.stack import Stack
from scripts.series.writer import write_series

Organs = Iterator[tuple[str, np.ndarray, np.ndarray]]  # name, mask and affine


def by_itself(file: Path, stack: Stack, folder: Path) -> Organs:
    read = open_structures(file)
    masks = read_masks(read, stack, {one.number for one in read.structures})
    for one in read.structures:
        yield one.name, stack.to_volume(masks[one.number].voxels), stack.nifti_affine


def by_dcmqi(file: Path, stack: Stack, folder: Path) -> Organs:
    command = ["segimage2itkimage", "--inputDICOM", file, "--outputDirectory", folder, "--outputType", "nii"]
    subprocess.run([*command, "--prefix", "dcmqi"], check=True, capture_output=True)
    for one in open_structures(file).structures:
        image = nib.load(folder / f"dcmqi-{one.number}.nii.gz")
        yield one.name, np.asarray(image.dataobj) > 0, image.affine


def by_plastimatch(file: Path, stack: Stack, folder: Path) -> Organs:
    command = ["plastimatch", "convert", "--input", file, "--referenced-ct", folder / "series", "--prefix-format"]
    subprocess.run([*command, "nii.gz", "--output-prefix", folder / "read"], check=True, capture_output=True)
    for one in open_structures(file).structures:
        image = nib.load(folder / "read" / f"{one.name}.nii.gz")
        yield one.name, np.asarray(image.dataobj) > 0, image.affine


def compare(found: Organs, labels: np.ndarray, affine: np.ndarray, names: list[str]) -> tuple[float, float]:
    """The lowest Dice and the largest distance of centroids in mm, without the outline of the patient."""
    scores = []
    for name, mask, placed in found:
        if name == "body":
            continue
        places, truth = apply_affine(placed, np.argwhere(mask)), labels == names.index(name)
        whole = np.rint(apply_affine(np.linalg.inv(affine), places)).astype(int)
        common = np.count_nonzero(truth[tuple(whole.T)])
        shift = places.mean(0) - apply_affine(affine, np.argwhere(truth)).mean(0)
        scores.append((2 * common / (len(whole) + np.count_nonzero(truth)), float(np.linalg.norm(shift))))
    return min(dice for dice, _ in scores), max(shift for _, shift in scores)


def read_as_inference(source: Path) -> None:
    index.read_index.cache_clear()
    for case in list_images(str(source)):
        sha256_of_files(case["image"])
        inspect_image(case["image"], {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    names, about = bundle_classes(), about_bundle()
    image, labels = generate.make_scan(0, 0, tuple(given.size), 0)[:2]
    affine = np.diag([-1.2, -1.5, 2.0, 1.0])
    affine[:3, 3] = (150, 170, -120)
    readers = {
        "dicom_seg": {"this bundle": by_itself, "segimage2itkimage": by_dcmqi},
        "dicom_labelmap": {"this bundle": by_itself},
        "rtstruct": {"this bundle": by_itself, "plastimatch": by_plastimatch},
    }
    print(f"{'x'.join(map(str, given.size))}, {len(names) - 1} classes, median of {given.repeats}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_series(np.clip(np.rint(image - image.min()), 0, 65535), affine, folder / "series", PatientID="P")
        nib.save(nib.Nifti1Image(image, affine), folder / "image.nii.gz")
        for name, source in (("series", folder / "series"), ("NIfTI", folder / "image.nii.gz")):
            print(f"reading the {name}: {seconds(partial(read_as_inference, source), given.repeats):.2f} s")
        print(f"{'format':<16}{'seconds':>8}{'kB':>8}  read by")
        stack = read_stack(folder / "series")
        frames = stack.to_frames(labels, affine)
        for format, others in readers.items():
            file = folder / f"{format}.dcm"
            took = seconds(partial(WRITERS[format], frames, stack, names, file, about), given.repeats)
            line = f"{format:<16}{took:>8.2f}{file.stat().st_size / 1000:>8.0f}"
            for reader, read in others.items():
                if reader == "this bundle" or shutil.which(reader):
                    dice, shift = compare(read(file, stack, folder), labels, affine, names)
                    print(f"{line}  {reader}: Dice {dice:.5f}, centroid within {shift:.4f} mm")
                    line = " " * 32


if __name__ == "__main__":
    main()
