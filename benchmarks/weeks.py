"""The motion of bones and organs between weekly scans: how far the estimate is from the truth, on phantoms.

    python benchmarks/weeks.py [--patients 6] [--weeks 3] [--sizes 64 128 256] [--predictions FOLDER] [--output FOLDER]

A phantom is moved as a whole between its scans, by a motion that is known; its bladder and rectum fill anew. The true
shift of an organ is that of its centroid at 256x256x128 voxels, under the true motion. The label maps are the phantoms'
own, so a network's errors are not in the figures; --predictions adds a column for the maps that a network made of
phantoms (of seed 0), such as the demo's. Three more lines: the legs of every scan after the first turned by 6 degrees
at the hips; the bones of one patient registered with those of another; and, where SimpleITK is installed (it is no part
of the project), its registration of the bones' distance maps, for up to 128x128x64 voxels. The result is added to
weeks.json in the output folder, and weeks.md is made of it.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from common import present  # finds the scripts as well
from scipy.spatial.transform import Rotation

from scripts.phantoms.generate import CLASSES, SIGNALS, draw_scan, true_motion
from scripts.phantoms.pelvis import render_pelvis
from scripts.phantoms.shapes import axes_mm, frame, voxel_mm
from scripts.series.stack import TO_RAS
from scripts.weeks.closest_points import register
from scripts.weeks.motion import OrganMotion, ScanMotion, compare_organ, measure_patient
from scripts.weeks.rigid import Rigid
from scripts.weeks.scans import by_patient, find_label_maps, scan_of
from scripts.weeks.structures import find_structures
from scripts.weeks.surfaces import Surface

ORGANS = ("bladder", "rectum", "prostate")
BONES = CLASSES.index("bones")
FINE = (256, 256, 128)
LEG_DEGREES = 6
HIP = (88.0, 0.0, 0.0)  # of the pelvic frame, on the left
SHIFTS = ("left_mm", "back_mm", "head_mm")


def affine_of(size: tuple) -> np.ndarray:
    """Voxel to RAS millimetres."""
    affine = np.diag([*voxel_mm(size), 1.0])
    affine[:3, 3] = [axis[0] for axis in axes_mm(size)]
    return TO_RAS @ affine


@cache
def labels_of(patient: int, week: int, size: tuple) -> np.ndarray:
    """The label map that `make_scan` makes, without its image."""
    return render_pelvis(size, *draw_scan(patient, week)[:2], SIGNALS)[0]


@cache
def fine_structures(patient: int, week: int) -> dict:
    values = [CLASSES.index(name) for name in ORGANS]
    found = find_structures(labels_of(patient, week, FINE), affine_of(FINE), values)
    return {name: found[value] for name, value in zip(ORGANS, values, strict=True)}


@cache
def true_organs(patient: int, week: int) -> dict[str, OrganMotion]:
    first, now, true = fine_structures(patient, 0), fine_structures(patient, week), Rigid(*true_motion(patient, week))
    return {name: compare_organ(first[name], now[name], true) for name in ORGANS}


def bone_error(found: Rigid, true: Rigid, points: np.ndarray) -> tuple[float, float]:
    """Mean distance in mm of the points that both motions move, and the angle in degrees between the two."""
    distance = np.linalg.norm(found(points) - true(points), axis=1).mean()
    return float(distance), float(np.linalg.norm(found.after(true.inverse()).degrees))


def turn_legs(surface: Surface, patient: int, week: int) -> tuple[Surface, np.ndarray]:
    """The surface with both thighs turned at the hips, and which points were not turned."""
    build, filling, *_ = draw_scan(patient, week)
    turn, shift = frame(build, filling)
    points, normals = surface.points.copy(), surface.normals.copy()
    inside = (points - shift) @ turn.T / build.scale
    kept = np.ones(len(points), bool)
    for side in (-1, 1):
        out = side * inside[:, 0]
        leg = ((out > 112) | ((out > 90) & (inside[:, 2] < -28))) & (inside[:, 2] < 20)
        turned = Rotation.from_euler("z", side * LEG_DEGREES, degrees=True).as_matrix()
        hip = np.array(HIP) * (side, 1, 1)
        points[leg] = (((inside[leg] - hip) @ turned.T + hip) * build.scale) @ turn + shift
        normals[leg] = normals[leg] @ turn.T @ turned.T @ turn
        kept &= ~leg
    return Surface(points, normals, surface.spacing), kept


def with_simpleitk(first: np.ndarray, now: np.ndarray, size: tuple) -> tuple[Rigid, float]:
    """The motion from this scan to the first by the distance maps of the bones, and the processor seconds it took."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    began, maps = time.process_time(), []
    for labels in (first, now):
        image = SimpleITK.GetImageFromArray((labels == BONES).astype(np.uint8).transpose())
        image.SetSpacing(voxel_mm(size).tolist())
        image.SetOrigin([float(axis[0]) for axis in axes_mm(size)])
        distance = SimpleITK.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        maps.append(SimpleITK.Clamp(distance, SimpleITK.sitkFloat32, -15, 15))
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 300, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.3 if size[0] <= 64 else 0.1, seed=1)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    middle = SimpleITK.CenteredTransformInitializerFilter.GEOMETRY
    moved = SimpleITK.CenteredTransformInitializer(*maps, SimpleITK.Euler3DTransform(), middle)
    method.SetInitialTransform(moved, inPlace=True)
    method.Execute(*maps)
    turn, centre = np.array(moved.GetMatrix()).reshape(3, 3), np.array(moved.GetCenter())
    to_this_scan = Rigid(turn, np.array(moved.GetTranslation()) + centre - turn @ centre)
    return to_this_scan.inverse(), time.process_time() - began


class Figures:
    """Lists of numbers by name, and what is kept of each."""

    def __init__(self) -> None:
        self.lists: dict[str, list[float]] = {}

    def note(self, **figures: float) -> None:
        for name, value in figures.items():
            self.lists.setdefault(name, []).append(float(value))

    def summary(self) -> dict:
        kept = {"mean": np.mean, "max": np.max, "min": np.min}
        return {name: {k: float(f(values)) for k, f in kept.items()} for name, values in self.lists.items()}


def note_organs(note: Callable, scan: ScanMotion, true: dict[str, OrganMotion]) -> None:
    for name, real in true.items():
        seen = scan.organs[name]
        error = [getattr(seen, key) - getattr(real, key) for key in SHIFTS]
        note(**{f"{name}_mm": np.linalg.norm(error)})
        note(volume_percent=100 * abs(seen.volume_ml / real.volume_ml - 1))
        if seen.surface_max_mm is None or real.surface_max_mm is None:  # too thin for a surface
            continue
        note(surface_max_mm=abs(seen.surface_max_mm - real.surface_max_mm))
        note(surface_p95_mm=abs(seen.surface_p95_mm - real.surface_p95_mm))
        note(outside_percent=100 * max(abs(seen.outside[key] - real.outside[key]) for key in seen.outside))


def measure_predictions(folder: Path) -> dict:
    """The figures of a network's maps of phantoms."""
    patients, _ = by_patient(scan_of(file.name, file) for file in find_label_maps(folder))
    figures, size = Figures(), ()
    for patient, scans in patients.items():
        motion, problems = measure_patient(scans, CLASSES, "bones", ORGANS)
        assert not problems and scans[0].week == 0, problems or scans
        first, *others = ((scan, nib.load(scan.file)) for scan in scans)
        size = first[1].shape
        fixed = find_structures(np.asarray(first[1].dataobj), first[1].affine, [BONES])[BONES].surface
        for (scan, image), found in zip(others, motion.scans[1:], strict=True):
            surface = find_structures(np.asarray(image.dataobj), image.affine, [BONES])[BONES].surface
            match, true = register(surface, fixed), Rigid(*true_motion(int(patient), scan.week))
            distance, degrees = bone_error(match.motion, true, surface.points)
            figures.note(bones_mm=distance, bones_deg=degrees, residual_mm=match.residual_mm)
            note_organs(figures.note, found, true_organs(int(patient), scan.week))
    return {"size": list(size), "voxel_mm": np.round(voxel_mm(size), 2).tolist(), **figures.summary()}


def measure(size: tuple, patients: range, weeks: int, folder: Path, peer: bool) -> dict:
    """All figures at one size of the voxels."""
    figures = Figures()
    note = figures.note
    bones_of = {}
    for patient in patients:
        maps, scans = [], []
        for week in range(weeks):
            labels = labels_of(patient, week, size)
            file = folder / f"Case_{patient:03d}_Week{week}_{size[0]}_seg.nii.gz"
            nib.save(nib.Nifti1Image(labels, affine_of(size)), file)
            maps.append(labels)
            scans.append(scan_of(file.name, file))
        began = time.process_time()
        motion, problems = measure_patient(scans, CLASSES, "bones", ORGANS)
        note(seconds=(time.process_time() - began) / weeks)
        assert not problems, problems
        bones = [find_structures(labels, affine_of(size), [BONES])[BONES] for labels in maps]
        bones_of[patient] = bones[0].surface
        for week, scan in enumerate(motion.scans[1:], start=1):
            true = Rigid(*true_motion(patient, week))
            points = bones[week].surface.points
            match = register(bones[week].surface, bones[0].surface)
            distance, degrees = bone_error(match.motion, true, points)
            note(bones_mm=distance, bones_deg=degrees, residual_mm=match.residual_mm)
            note(moved_mm=np.linalg.norm(true(points) - points, axis=1).mean())
            turned, kept = turn_legs(bones[week].surface, patient, week)
            distance, degrees = bone_error(register(turned, bones[0].surface).motion, true, points[kept])
            note(legs_mm=distance, legs_deg=degrees)
            if peer and size[0] <= 128:
                other, seconds = with_simpleitk(maps[0], maps[week], size)
                distance, degrees = bone_error(other, true, points)
                apart, _ = bone_error(other, match.motion, points)
                note(peer_mm=distance, peer_deg=degrees, peer_apart_mm=apart, peer_seconds=seconds)
            note_organs(note, scan, true_organs(patient, week))
    for patient in patients:
        other = patients[(patients.index(patient) + 1) % len(patients)]
        note(strangers_mm=register(bones_of[other], bones_of[patient]).residual_mm)
    return {"size": list(size), "voxel_mm": np.round(voxel_mm(size), 2).tolist(), **figures.summary()}


def table(found: dict) -> str:
    """The figures as Markdown, a column for every size and one for a network's maps."""
    columns = [*found["sizes"], *([found["predictions"]] if "predictions" in found else [])]
    lines = {
        "bones after registration (mm)": "bones_mm",
        "rotation of the bones (degrees)": "bones_deg",
        f"bones, legs turned by {LEG_DEGREES} degrees (mm)": "legs_mm",
        **{f"shift of the {name} (mm)": f"{name}_mm" for name in ORGANS},
        "largest distance of two surfaces (mm)": "surface_max_mm",
        "its 95 % (mm)": "surface_p95_mm",
        "volume (%)": "volume_percent",
        "part outside + 5 or 10 mm (percentage points)": "outside_percent",
        "SimpleITK: bones after registration (mm)": "peer_mm",
        "SimpleITK: bones, from where ours has them (mm)": "peer_apart_mm",
    }
    heads = [f"{'x'.join(map(str, one['size']))}, {max(one['voxel_mm']):.1f} mm" for one in columns]
    if "predictions" in found:
        heads[-1] += ", of a network"
    rows = [["error: mean (largest)", *heads], ["---", *["---:"] * len(columns)]]
    for words, name in lines.items():
        decimals = 1 if "percent" in name else 2
        known = [one.get(name) for one in columns]
        rows.append([words, *(f"{v['mean']:.{decimals}f} ({v['max']:.{decimals}f})" if v else "" for v in known)])
    for words, name, key in (
        ("residual, the same patient (mm): largest", "residual_mm", "max"),
        ("residual, another patient (mm): smallest", "strangers_mm", "min"),
        ("processor seconds a scan, from file to figures: mean", "seconds", "mean"),
        ("processor seconds a scan, SimpleITK's registration alone: mean", "peer_seconds", "mean"),
    ):
        rows.append([words, *(f"{one[name][key]:.2f}" if name in one else "" for one in columns)])
    rows = [row for row in rows if any(row[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--weeks", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--predictions", type=present, help="folder of an inference on weekly phantoms")
    parser.add_argument("--output", type=Path, default=Path("output"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / "weeks.json"
    found: dict = json.loads(file.read_text()) if file.is_file() else {}
    if given.predictions:
        found["predictions"] = measure_predictions(given.predictions)
    if given.sizes:
        peer = importlib.util.find_spec("SimpleITK") is not None
        found |= {"patients": given.patients, "weeks": given.weeks, "sizes": []}
        with TemporaryDirectory() as folder:
            for count in given.sizes:
                size = (count, count, count // 2)
                patients = range(4, 4 + given.patients)
                found["sizes"].append(measure(size, patients, given.weeks, Path(folder), peer))
                print(f"{size}: done", flush=True)
    file.write_text(json.dumps(found, indent=2) + "\n")
    (given.output / "weeks.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
