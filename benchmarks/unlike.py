"""Whether images of another kind are found: an inference with --unlike skip of such images, and of sound ones.

    python benchmarks/unlike.py NAME RECIPE MODELS OWN OTHER [OTHER ...] [--output DIR]

MODELS is the folder of weights that configs/calibrate.json was run for, RECIPE the patch of their recipe. OWN is a
datalist: its validation images are sound, and from some of them further ones are made: turned, without contrast, of
other voxel sizes, noise in their place, and their label maps taken for images. Phantoms of the pelvis as of other
scanners (fat saturation, T1) and the images of the test files of pydicom, CT among them, and of nibabel are always
tried. Each OTHER is a folder of images of another kind, and the row is called after it. An image that the check of the
data refuses, as of four dimensions, does not count. The table of all sets is left in the output folder as unlike.md and
unlike.json.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
import nibabel as nib
import numpy as np
import pydicom
from fine_tuning import SITE_SIGNALS, SIZE, make_site_scan
from pydicom.data.data_manager import DATA_ROOT
from results import leave, rows_of_other_sets
from trainings import DEMO

SAID = "unlike the training data: "
MADE = 8  # images of each kind that is made
SMALLEST, SLICES = 32, 24  # pixels of a slice of pydicom, and how often it is repeated, as its files hold single ones


def turned(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upside down, as where the header says something that is not so."""
    return data[:, :, ::-1], affine


def other_voxels(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return data, affine @ np.diag([2.0, 2.0, 2.0, 1.0])


def flat(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearly without contrast, but for a few very bright voxels, as with metal."""
    made = data.astype(np.float64)
    made[tuple(np.array(data.shape) // 2)] = 200 * float(data.max())
    return made, affine


def noise(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(100, 20, data.shape), affine


CHANGES: dict[str, Callable] = {
    "turned": turned, "voxels twice as large": other_voxels, "metal": flat, "noise": noise,
}  # fmt: skip


def make(listed: dict, folder: Path) -> None:
    """Images that are made of sound ones, in a folder for each kind, and the sound ones."""
    root, entries = Path(listed["dataset_dir"]), listed["validation"]
    for number, entry in enumerate(entries):
        image = nib.load(root / entry["image"])
        (folder / "sound").mkdir(parents=True, exist_ok=True)
        shutil.copy(root / entry["image"], folder / "sound")
        if number >= MADE:
            continue
        for kind, change in CHANGES.items():
            data, affine = change(np.asarray(image.dataobj), image.affine)
            (folder / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(data.astype(np.float32), affine), folder / kind / f"{number}.nii.gz")
        (folder / "label maps").mkdir(exist_ok=True)
        shutil.copy(root / entry["label"], folder / "label maps" / f"{number}.nii.gz")


def make_others(folder: Path) -> None:
    """Phantoms of the pelvis as T2 images with fat saturation and as T1 images; images of pydicom and nibabel."""
    from scripts.phantoms.generate import SIGNALS, write_file
    from scripts.phantoms.layouts import LAYOUTS
    from scripts.phantoms.shapes import voxel_mm

    encode, voxel = LAYOUTS["hipmri"].encode, voxel_mm(SIZE)
    kinds = {"pelvis, fat saturated": SIGNALS | {"fat": 0.08, "marrow": 0.12}, "pelvis, T1": SIGNALS | SITE_SIGNALS}
    for kind, signals in kinds.items():
        (folder / kind).mkdir()
        for patient in range(MADE):
            image, _ = make_site_scan(1000 + patient, signals)
            write_file(folder / kind / f"{patient}.nii.gz", encode(image, voxel))
    (folder / "nibabel").mkdir()
    shutil.copy(Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii", folder / "nibabel")
    seen = set()
    for file in sorted(Path(DATA_ROOT, "test_files").rglob("*.dcm")):  # those that come with it, without a download
        try:
            found = pydicom.dcmread(file)
            pixels = np.asarray(found.pixel_array, np.float32)
        except Exception:  # some of them are broken on purpose
            continue
        kind = f"pydicom, {found.get('Modality')}"
        if pixels.ndim != 2 or min(pixels.shape) < SMALLEST or found.get("SamplesPerPixel", 1) != 1:
            continue
        if (key := (kind, pixels.shape, float(pixels.mean()))) in seen:
            continue
        seen.add(key)
        spacing = [float(size) for size in found.get("PixelSpacing", (1, 1))]
        slices = np.repeat(pixels.T[..., None], SLICES, axis=2)
        affine = np.diag([-spacing[1], -spacing[0], float(found.get("SliceThickness") or 5), 1])
        (folder / kind).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(slices, affine), folder / kind / f"{file.stem}.nii.gz")


def named(place: Path) -> str:
    """The name of a data set, of which a folder holds the images."""
    return place.parent.name if place.name.startswith("images") else place.name


def marked(images: Path, recipe: str, models: Path) -> dict[str, int | list[str]]:
    """How many images of a folder there are, and how many are left out as unlike."""
    from scripts.core.errors import find_user_error

    with tempfile.TemporaryDirectory() as out:
        run = common.inference(images, models, Path(out), f"{recipe}.json", unlike="skip", niivue=False, weeks=False)
        try:
            run.run()
            run.finalize()
        except Exception as error:  # as MONAI wraps it
            if "cases failed" not in str(find_user_error(error)):  # else it says that images were left out
                raise
        cases = json.loads((Path(out) / "run.json").read_text())["cases"]
    reasons = [case.get("reason", "") for case in cases]
    kept = [reason for reason in reasons if not reason or reason.startswith(SAID)]
    return {"images": len(kept), "marked": sum(map(bool, kept)), "reasons": sorted({r for r in kept if r})[:3]}


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = ["| trained on | images | number | called unlike |", "|---|---|---:|---:|"]
    for row in rows:
        share = 100 * row["marked"] / max(1, row["images"])
        lines.append(f"| {row['set']} | {row['kind']} | {row['images']} | {row['marked']} ({share:.0f} %) |")
    for name in dict.fromkeys(row["set"] for row in rows):
        others = [row for row in rows if row["set"] == name and row["kind"] != "sound"]
        total, found = (sum(row[key] for row in others) for key in ("images", "marked"))
        lines.append(f"| {name} | all other kinds | {total} | {found} ({100 * found / max(1, total):.0f} %) |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the training data, for the table")
    parser.add_argument("recipe", type=common.recipe, help="as recipe_hippocampus")
    parser.add_argument("models", type=common.present, help="folder of the weights")
    parser.add_argument("own", type=common.present, help="datalist.json of the training")
    parser.add_argument("others", type=common.present, nargs="*", help="folders of other images")
    parser.add_argument("--output", type=Path, default=DEMO / "doubt")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = rows_of_other_sets(given.output / "unlike.json", given.name)
    with tempfile.TemporaryDirectory() as folder:
        make(json.loads(given.own.read_text()), Path(folder))
        make_others(Path(folder))
        places = {place.name: place for place in sorted(Path(folder).iterdir())}
        places |= {named(place): place for place in given.others}
        for kind, place in places.items():
            found = marked(place, given.recipe, given.models)
            rows += [{"set": given.name, "kind": kind} | found] if found["images"] else []
    leave(rows, f"{table(rows)}\n\nResearch use only.\n", given.output / "unlike")


if __name__ == "__main__":
    main()
