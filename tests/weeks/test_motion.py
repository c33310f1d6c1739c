"""Known motions are found: of the bones, and of organs relative to the bones, in whatever order a file has its axes."""

import numpy as np
import pytest
from helpers import refusal
from scenes import BONES, CENTRES, NAMES, RADII, affine_of, draw, shape_of, turned, write

from scripts.phantoms.generate import make_scan, true_motion
from scripts.phantoms.shapes import axes_mm, voxel_mm
from scripts.series.stack import TO_RAS
from scripts.weeks import motion
from scripts.weeks.closest_points import register
from scripts.weeks.motion import compare_organ, measure_patient, refuse_few_bones
from scripts.weeks.rigid import STAY, Rigid
from scripts.weeks.scans import scan_of
from scripts.weeks.structures import find_structures
from scripts.weeks.surfaces import Surface

SHIFT = np.array([7.0, -5.0, 6.0])  # towards left, front, head: three signs and sizes that can't be confused
TILT = turned((3, -2, 4), (6, -9, 4))
ORIENTATIONS = ["RAS", "LPS", "LAS", "RPI", "PSR", "SLA", "RAS~", "PIL~"]


def structures(labels, affine) -> dict:
    return {NAMES[value]: found for value, found in find_structures(labels, affine, [2, 3, 4]).items()}


def measured(folder, **scenes):
    """The motion over the weeks 0, 1, ... of one patient."""
    scans = [write(folder, name, **scene) for name, scene in scenes.items()]
    return measure_patient([scan_of(file.name, file) for file in scans], NAMES, "bones", ["bladder", "prostate"])


def shift_of(organ) -> np.ndarray:
    return np.array([organ.left_mm, organ.back_mm, organ.head_mm])


def phantom_bones(patient: int, week: int) -> Surface:
    size = (64, 64, 32)
    affine = np.diag([*voxel_mm(size), 1.0])
    affine[:3, 3] = [axis[0] for axis in axes_mm(size)]
    return find_structures(make_scan(patient, week, size)[1], TO_RAS @ affine, [2])[2].surface


@pytest.mark.parametrize("patient", [4, 5])
def test_the_motion_of_a_phantom_is_found(patient):
    """Voxels are 6.7 mm wide; the mean error of sixteen pairs was 0.15 mm and 0.08 degrees."""
    now = phantom_bones(patient, 1)
    found = register(now, phantom_bones(patient, 0))
    true = Rigid(*true_motion(patient, 1))
    moved = np.linalg.norm(true(now.points) - now.points, axis=1).mean()
    error = np.linalg.norm(found.motion(now.points) - true(now.points), axis=1).mean()
    assert moved > 1.5 and error < 0.4
    assert np.linalg.norm(found.motion.after(true.inverse()).degrees) < 0.25
    assert found.residual_mm < 0.8 and found.matched > 0.95


def test_bones_of_another_patient_are_noticed():
    assert register(phantom_bones(5, 0), phantom_bones(4, 0)).residual_mm > 2


def test_large_motions_are_found():
    now = phantom_bones(4, 1)
    far = turned((8, -6, 5), (50, -30, 40))
    error = register(now.moved(far), phantom_bones(4, 0)).motion.after(far)(now.points)
    assert np.linalg.norm(error - Rigid(*true_motion(4, 1))(now.points), axis=1).mean() < 0.4


def test_a_part_that_moved_by_itself_does_not_pull():
    """As a leg that lies differently; without weights the error is above 1 mm."""
    first, now = (find_structures(draw(), affine_of(), [2])[2].surface for _ in range(2))
    leg = now.points[:, 0] < -25
    points = np.where(leg[:, None], now.points + (0, 8, 0), now.points)
    found = register(Surface(points, now.normals, now.spacing), first)
    assert np.linalg.norm(found.motion(now.points) - now.points, axis=1).mean() < 0.3 and leg.mean() > 0.15


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_shift_relative_to_bone_has_the_right_size_and_signs(orientation, tmp_path):
    """The patient lies differently too, and the first scan has another orientation."""
    shape = shape_of(orientation)
    affine = affine_of(orientation, shape)
    week = {"affine": affine, "shape": shape, "motion": TILT, "moved": {"bladder": SHIFT}}
    patient, problems = measured(tmp_path, Case_004_Week0={}, Case_004_Week1=week)
    assert problems == [] and len(patient.scans) == 2
    organs, bones = patient.scans[1].organs, patient.scans[1].bones
    assert shift_of(organs["bladder"]) == pytest.approx(SHIFT, abs=0.35)
    assert shift_of(organs["prostate"]) == pytest.approx(np.zeros(3), abs=0.35)
    assert organs["bladder"].surface_max_mm == pytest.approx(np.linalg.norm(SHIFT), abs=1.2)
    assert [bones.pitch_deg, bones.yaw_deg, bones.roll_deg] == pytest.approx(TILT.degrees, abs=0.3)
    middle = structures(draw(), affine_of())["bones"].centroid
    assert [bones.left_mm, bones.back_mm, bones.head_mm] == pytest.approx(TILT(middle) - middle, abs=0.3)


@pytest.mark.parametrize("axis", range(3))
def test_a_mirrored_axis_turns_its_sign(axis, tmp_path):
    """Were an axis read the wrong way round, the test above would see it."""
    first, now = draw(), draw(moved={"bladder": SHIFT})
    affine = affine_of()
    shifts = []
    for mirrored in (False, True):
        maps = [np.flip(labels, axis) if mirrored else labels for labels in (first, now)]
        found = [structures(np.ascontiguousarray(labels), affine)["bladder"] for labels in maps]
        shifts.append(shift_of(compare_organ(*found, STAY)))
    wrong = SHIFT * np.where(np.arange(3) == axis, -1, 1)
    assert shifts[0] == pytest.approx(SHIFT, abs=0.3) and shifts[1] == pytest.approx(wrong, abs=0.3)


def test_a_finer_grid_in_another_week_is_the_same_patient(tmp_path):
    shape = (64, 60, 52)
    fine = {"affine": affine_of("LPS", shape, 2.5), "shape": shape, "motion": TILT, "moved": {"bladder": SHIFT}}
    patient, problems = measured(tmp_path, Case_004_Week0={}, Case_004_Week1=fine)
    assert problems == []
    assert shift_of(patient.scans[1].organs["bladder"]) == pytest.approx(SHIFT, abs=0.5)


def test_volumes_and_distances_of_a_sphere_that_grows(tmp_path):
    patient, _ = measured(tmp_path, Case_004_Week0={}, Case_004_Week1={"radii": {"bladder": 24.0}})
    first, grown = (scan.organs["bladder"] for scan in patient.scans)
    ml = [4 / 3 * np.pi * radius**3 / 1000 for radius in (18, 24)]
    assert [first.volume_ml, grown.volume_ml] == pytest.approx(ml, rel=0.03)
    assert grown.change_ml == pytest.approx(grown.volume_ml - first.volume_ml)
    assert grown.change_percent == pytest.approx(100 * (grown.volume_ml / first.volume_ml - 1))
    assert grown.surface_p95_mm == pytest.approx(6, abs=1) and grown.surface_max_mm == pytest.approx(6, abs=1.3)
    assert first.change_ml is None and first.left_mm is None and first.outside == {}


@pytest.mark.parametrize("distance", [3, 8, 16])
def test_the_part_outside_the_grown_contour(distance, tmp_path):
    """Counted here for two spheres, with the grid's own points."""
    shape, voxel = (60, 54, 48), 2.5
    affine = affine_of("RAS", shape, voxel)
    move = np.array([distance, 0, 0])
    scene = {"affine": affine, "shape": shape}
    patient, _ = measured(tmp_path, Case_004_Week0=scene, Case_004_Week1={**scene, "moved": {"bladder": move}})
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    points = (voxels @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
    centre, radius = np.array(CENTRES["bladder"]), RADII["bladder"]
    inside = np.linalg.norm(points - centre - move, axis=1) < radius
    away = np.linalg.norm(points[inside] - centre, axis=1) - radius
    found = patient.scans[1].organs["bladder"].outside
    for grown in (5, 10):
        assert found[f"{grown}_mm"] == pytest.approx((away > grown).mean(), abs=0.02)
    assert (found["5_mm"] == 0) == (distance == 3)


def test_an_organ_at_the_border_says_so_and_does_not_count(tmp_path):
    patient, _ = measured(tmp_path, Case_004_Week0={}, Case_004_Week1={"moved": {"bladder": (0, 0, 45)}})
    found = patient.scans[1].organs["bladder"]
    assert found.note == "touches the border of the volume in this scan" and not found.whole
    assert patient.scans[1].organs["prostate"].whole


@pytest.mark.parametrize("first", [1, 2, 3])
def test_an_organ_near_the_border_says_so_where_a_part_of_its_surface_is_left_out(first):
    """The scan begins one to three voxels below the organ, whose surface is then compared with its own."""
    labels, affine = np.zeros((40, 40, 40), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])
    labels[12:28, 12:28, 12:28] = 3
    whole = structures(labels, affine)["bladder"]
    cropped = structures(labels[:, :, 12 - first :], affine)["bladder"]
    assert len(cropped.surface.points) < len(whole.surface.points) or not cropped.cut
    assert cropped.cut == (first <= 2)


def test_an_organ_that_is_mostly_too_thin_for_a_surface_has_no_distances():
    """The smoothing leaves the thick part only, of which most of the organ was said to lie more than 10 mm outside."""
    labels, affine = np.zeros((30, 30, 44), np.uint8), np.diag([5.0, 5.0, 5.0, 1.0])
    labels[14:16, 14:16, 5:39] = 3
    labels[12:18, 12:18, 20:23] = 3
    first, now = (structures(np.roll(labels, step, 0), affine)["bladder"] for step in (0, -1))
    found = compare_organ(first, now, STAY)
    assert len(first.surface) and found.surface_max_mm is None and found.surface_p95_mm is None and not found.outside
    assert abs(found.left_mm) == pytest.approx(5) and found.whole


@pytest.mark.parametrize("week, words", [(0, "not found in the first scan"), (1, "not found in this scan")])
def test_a_missing_organ_says_so(week, words, tmp_path):
    scenes = {f"Case_004_Week{number}": {"radii": {"bladder": 0 if number == week else 18}} for number in (0, 1)}
    patient, problems = measured(tmp_path, **scenes)
    found = patient.scans[1].organs["bladder"]
    assert problems == [] and found.note == words and found.left_mm is None and not found.whole
    assert (found.volume_ml == 0) == (week == 1)


def test_weeks_that_cannot_be_compared_are_lines_and_the_others_go_on(tmp_path):
    (tmp_path / "Case_004_Week2.nii.gz").write_bytes(b"no volume")
    others = tuple((np.array(centre) * (1.3, -1, 0.6), size) for centre, size in BONES)
    files = [
        write(tmp_path, "Case_004_Week0", bones=()),
        write(tmp_path, "Case_004_Week1"),
        tmp_path / "Case_004_Week2.nii.gz",
        write(tmp_path, "Case_004_Week3", bones=others),
        write(tmp_path, "Case_004_Week4", moved={"prostate": SHIFT}),
    ]
    patient, problems = measure_patient([scan_of(f.name, f) for f in files], NAMES, "bones", ["prostate"])
    assert [scan.name for scan in patient.scans] == ["Week 1", "Week 4"]
    assert shift_of(patient.scans[1].organs["prostate"]) == pytest.approx(SHIFT, abs=0.35)
    words = ["found 0 points of the surface of bones", "not readable", "the bones could not be registered"]
    assert all(word in line for word, line in zip(words, problems, strict=True))
    assert all("Case_004_Week" in line and len(line.splitlines()) == 1 for line in problems)


def test_an_error_that_nobody_foresaw_is_a_line_with_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(motion, "register", fail)
    patient, problems = measured(tmp_path, Case_004_Week0={}, Case_004_Week1={})
    assert len(patient.scans) == 1 and problems == [f"{tmp_path}/Case_004_Week1.nii.gz: LinAlgError: Singular matrix"]


def test_too_few_bones_are_refused_with_a_way_out(tmp_path):
    message = refusal(refuse_few_bones, scan_of("a", tmp_path / "a.nii.gz"), None, "bones")
    assert "a.nii.gz: found 0 points" in message and "--bones" in message
