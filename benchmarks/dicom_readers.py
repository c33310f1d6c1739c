"""What readers of DICOM do with a sound series and with faulty ones: is every slice where its header says it is?

    python benchmarks/dicom_readers.py [--series DIR ...] [--sort DIR]

Each variant is made from a synthetic series of oblique slices; --series names real ones as well. A slice is at its
place if a sample of its pixels is found there, by the affine that the reader gives. SimpleITK, dcm2niix and highdicom
take part if they are installed. --sort counts what this bundle makes of a folder; without a name, of pydicom's own test
files.
"""

import argparse
import importlib.util
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from common import BUNDLE, seconds  # noqa: F401  (puts the bundle on the path)

sys.path.insert(0, str(BUNDLE.parent / "tests"))
from series_samples import affine_of, as_enhanced, edit, slices_of, volume_of

from scripts.core.errors import UserError
from scripts.series.index import choose, index_of, path_of
from scripts.series.reader import read_series
from scripts.series.writer import write_series

SHAPE = (64, 48, 16)
SAMPLE = 300  # pixels of each slice
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
Volume = tuple[np.ndarray, np.ndarray]  # values and RAS affine


class Refused(Exception):
    """A reader that does not read, with its reason."""


def by_this_bundle(folder: Path) -> list[Volume]:
    try:
        return [read_series(path_of(folder, series)) for series in choose(folder)[0]]
    except UserError as error:
        raise Refused(str(error)) from error


def by_monai(folder: Path) -> list[Volume]:
    from monai.transforms import LoadImage

    image = LoadImage(reader="PydicomReader")(str(folder))
    if image.ndim != 3:
        raise Refused(f"{image.ndim} axes")
    return [(image.numpy(), image.affine.numpy())]


def by_simpleitk(folder: Path) -> list[Volume]:
    import SimpleITK as sitk

    found = []
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
        image = reader.Execute()
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        found.append((sitk.GetArrayFromImage(image).T, TO_RAS @ affine))
    if not found:
        raise Refused("no series found")
    return found


def by_highdicom(folder: Path) -> list[Volume]:
    import highdicom

    datasets = [pydicom.dcmread(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    datasets = [one for one in datasets if "PixelData" in one]
    try:
        if len(datasets) == 1 and "NumberOfFrames" in datasets[0]:
            volume = highdicom.Image.from_dataset(datasets[0]).get_volume()
        else:
            volume = highdicom.get_volume_from_series(datasets)
    except Exception as error:
        raise Refused(str(error)) from error
    return [(volume.array, TO_RAS @ volume.affine)]


def by_dcm2niix(folder: Path) -> list[Volume]:
    with tempfile.TemporaryDirectory() as out:
        program = shutil.which("dcm2niix") or str(Path(importlib.util.find_spec("dcm2niix").origin).parent / "dcm2niix")
        subprocess.run([program, "-o", out, "-z", "n", str(folder)], capture_output=True)
        images = [nib.load(file) for file in sorted(Path(out).glob("*.nii"))]
        if not images:
            raise Refused("no file written")
        return [(np.asarray(image.dataobj), image.affine) for image in images]


READERS: dict[str, tuple[str, Callable[[Path], list[Volume]]]] = {
    "this bundle": ("pydicom", by_this_bundle),
    "MONAI PydicomReader": ("monai", by_monai),
    "SimpleITK": ("SimpleITK", by_simpleitk),
    "dcm2niix": ("dcm2niix", by_dcm2niix),
    "highdicom": ("highdicom", by_highdicom),
}


def sound(folder: Path) -> None:
    write_series(volume_of(SHAPE), affine_of("oblique", shape=SHAPE), folder, PatientID="A", SeriesDescription="T2")


def missing(folder: Path) -> None:
    slices_of(folder)[6].unlink()


def unequal(folder: Path) -> None:
    for file in slices_of(folder)[7:]:
        shift(file, 2.0, "across")


def tilted(folder: Path) -> None:
    for number, file in enumerate(slices_of(folder)):
        shift(file, 0.4 * number, "along columns")


def shift(file: Path, mm: float, where: str) -> None:
    found = pydicom.dcmread(file)
    rows, columns = np.array(found.ImageOrientationPatient, float).reshape(2, 3)
    direction = columns if where == "along columns" else np.cross(rows, columns)
    edit(file, ImagePositionPatient=[f"{x:.8g}" for x in np.array(found.ImagePositionPatient, float) + mm * direction])


def shuffled(folder: Path) -> None:
    order = np.random.default_rng(0).permutation(SHAPE[2])
    for number, file in zip(order, slices_of(folder)):
        edit(file, folder / f"IM{number}", InstanceNumber=int(number) + 1)
        file.unlink()


def two_series(folder: Path) -> None:
    facts = {"number": 2, "PatientID": "A", "SeriesDescription": "T1"}
    write_series(volume_of(SHAPE, 1), affine_of("axial", shape=SHAPE), folder / "b", **facts)
    for file in slices_of(folder / "b"):
        file.rename(folder / f"b{file.name}")


def two_echoes(folder: Path) -> None:
    for number, file in enumerate(slices_of(folder)):
        found = pydicom.dcmread(file)
        found.PixelData = (found.pixel_array // 2 + 1).astype("<u2").tobytes()
        found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        found.EchoTime, found.InstanceNumber = "80", number + 1
        found.save_as(folder / f"e{file.name}")


def copied(folder: Path) -> None:
    shutil.copy(slices_of(folder)[3], folder / "copy.dcm")


def stray(folder: Path) -> None:
    facts = {"SOPInstanceUID": "1.2.3.4", "ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "InstanceNumber": 99}
    edit(slices_of(folder)[0], folder / "stray.dcm", **facts)


def noisy(folder: Path) -> None:
    for number, file in enumerate(slices_of(folder)):
        found = [float(x) for x in pydicom.dcmread(file).ImageOrientationPatient]
        edit(file, ImageOrientationPatient=[f"{x + 1e-7 * (number % 2):.12g}" for x in found])


def slopes(folder: Path) -> None:
    for number, file in enumerate(slices_of(folder)):
        edit(file, RescaleSlope=f"{0.5 + number / 8:g}", RescaleIntercept="0")


def enhanced(folder: Path) -> None:
    as_enhanced(folder, folder / "one" / "all.dcm", [int(i) for i in np.random.default_rng(0).permutation(SHAPE[2])])
    for file in slices_of(folder):
        file.unlink()


VARIANTS: dict[str, Callable[[Path], None] | None] = {
    "a sound series": None,
    "InstanceNumber shuffled, names without .dcm": shuffled,
    "two series in one folder": two_series,
    "a slice missing": missing,
    "one step 2 mm longer": unequal,
    "slices sheared, as by a tilted gantry": tilted,
    "two echoes with one series UID": two_echoes,
    "a file twice": copied,
    "one slice of another direction": stray,
    "directions that differ by 1e-7": noisy,
    "a rescale slope for each slice": slopes,
    "enhanced multi-frame, frames in any order": enhanced,
}


def truth(folder: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of every slice a sample of pixels: their places in RAS millimetres, and their values; and the UID's stack."""
    found = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        one = pydicom.dcmread(file)
        shared = one.get("SharedFunctionalGroupsSequence", [one])[0]
        groups = one.get("PerFrameFunctionalGroupsSequence", [one])
        orientation = one.get("ImageOrientationPatient") or shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = one.get("PixelSpacing") or shared.PixelMeasuresSequence[0].PixelSpacing
        pixels = one.pixel_array.reshape(-1, one.Rows, one.Columns)
        for group, values in zip(groups, pixels):
            position = one.get("ImagePositionPatient") or group.PlanePositionSequence[0].ImagePositionPatient
            dice = np.random.default_rng(0)
            row, column = dice.integers(0, one.Rows, SAMPLE), dice.integers(0, one.Columns, SAMPLE)
            right, down = np.array(orientation, float).reshape(2, 3)
            places = np.array(position, float) + np.outer(column * float(spacing[1]), right)
            places = places + np.outer(row * float(spacing[0]), down)
            scale = float(one.get("RescaleSlope", 1))
            found.append(((places * (-1, -1, 1)).T, values[row, column] * scale))
    return found


def slices_at_their_place(folder: Path, volumes: list[Volume]) -> tuple[int, int]:
    """Of all slices, how many are where their headers say in one of the volumes."""
    right = 0
    known = truth(folder)
    for places, values in known:
        for volume, affine in volumes:
            if abs(np.linalg.det(affine)) < 1e-6:
                continue
            index = (np.linalg.inv(affine) @ np.vstack([places, np.ones(places.shape[1])]))[:3]
            whole = np.rint(index).astype(int)
            if (whole < 0).any() or (whole.T >= volume.shape[:3]).any() or np.abs(index - whole).max() > 0.1:
                continue
            if np.isclose(volume[tuple(whole)], values, rtol=1e-4).mean() > 0.99:
                right += 1
                break
    return right, len(known)


def verdict(reader: Callable[[Path], list[Volume]], folder: Path) -> str:
    try:
        volumes = reader(folder)
    except Refused:
        return "refuses"
    except Exception:
        return "error"
    right, count = slices_at_their_place(folder, volumes)
    return "right" if right == count else f"{right} of {count} right"


def print_reasons(folder: Path) -> None:
    """How many series of a folder are read, and why the others are not; names and numbers are left out of a reason."""
    reasons = Counter()
    found = index_of(folder)
    for series in found.series:
        try:
            read_series(path_of(folder, series))
            reasons[series.doubt() or "read"] += 1
        except UserError as error:
            reason = str(error).rpartition(".series: ")[2].partition("; ")[0]
            reasons[" ".join(re.sub(r"\S*/\S*|-?[0-9.]+", "...", reason).split())] += 1
    print(f"{len(found.series)} series, {len(found.lines)} lines on other files")
    for reason, count in reasons.most_common():
        print(f"| {reason} | {count} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="*", type=Path, default=[], help="folders of one real series each")
    parser.add_argument("--sort", nargs="?", type=Path, const=Path(pydicom.__file__).parent / "data" / "test_files")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if given.sort:
        print_reasons(given.sort)
        return
    readers = {name: read for name, (package, read) in READERS.items() if importlib.util.find_spec(package)}
    print("| series | " + " | ".join(readers) + " |\n" + "|---" * (1 + len(readers)) + "|")
    with tempfile.TemporaryDirectory() as root:
        for number, (name, spoil) in enumerate(VARIANTS.items()):
            folder = Path(root) / str(number)
            sound(folder)
            if spoil:
                spoil(folder)
            print(f"| {name} | " + " | ".join(verdict(read, folder) for read in readers.values()) + " |", flush=True)
    for folder in given.series:
        cells = [f"{verdict(read, folder)}, {seconds(partial(read, folder), 3):.2f} s" for read in readers.values()]
        print(f"| {folder.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
