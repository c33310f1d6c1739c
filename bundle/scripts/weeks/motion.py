"""How the organs of one patient lie in every scan, relative to the bones, against the first scan."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from scripts.core.errors import UserError, one_line_reason
from scripts.data.label_maps import read_labels
from scripts.weeks.closest_points import Match, register
from scripts.weeks.rigid import Rigid
from scripts.weeks.scans import Scan
from scripts.weeks.structures import Structure, find_structures

LEAST_POINTS = 300  # of the surface of the bones
MOST_RESIDUAL_MM = 2.0  # bones of two people are further apart, those of one person nearer; measured on phantoms
LEAST_MATCHED = 0.5  # share of the surface that must have a counterpart
GROWN_MM = (5, 10)  # the first contour is grown by this much


@dataclass
class BoneMotion:
    """How the bones lie, against the first scan: where the patient was put.

    Attributes:
        left_mm: shift of their middle towards the patient's left.
        back_mm: likewise towards the back.
        head_mm: likewise towards the head.
        pitch_deg: rotation about the axis towards the left.
        yaw_deg: rotation about the axis towards the back.
        roll_deg: rotation about the axis towards the head.
        residual_mm: mean distance of the two surfaces once they are registered.
        matched: share of the surface that has a counterpart in the first scan.
    """

    left_mm: float
    back_mm: float
    head_mm: float
    pitch_deg: float
    yaw_deg: float
    roll_deg: float
    residual_mm: float
    matched: float


@dataclass
class OrganMotion:
    """One organ in one scan, against the first scan, relative to the bones. None where it is not known.

    Attributes:
        volume_ml: its volume.
        change_ml: its volume less that of the first scan.
        change_percent: likewise, in percent of the volume in the first scan.
        left_mm: shift of its centroid towards the patient's left.
        back_mm: likewise towards the back.
        head_mm: likewise towards the head.
        surface_max_mm: largest distance of a point of one surface from the other surface, in either direction.
        surface_p95_mm: the 95th percentile of these distances, of the direction in which it is larger.
        outside: share of its volume that is outside the first contour grown by 5, 10 mm.
        note: why the figures are not whole, or "".
    """

    volume_ml: float | None = None
    change_ml: float | None = None
    change_percent: float | None = None
    left_mm: float | None = None
    back_mm: float | None = None
    head_mm: float | None = None
    surface_max_mm: float | None = None
    surface_p95_mm: float | None = None
    outside: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether the shift counts in the figures of all patients."""
        return self.left_mm is not None and not self.note


@dataclass
class ScanMotion:
    """One scan of a patient.

    Attributes:
        name: of the scan, such as "Week 2".
        time: weeks or days, for the axis of a chart.
        file: the label map.
        bones: how the patient lay; None in the first scan.
        organs: by name of the class.
    """

    name: str
    time: int
    file: str
    bones: BoneMotion | None
    organs: dict[str, OrganMotion]


@dataclass
class PatientMotion:
    """The scans of one patient, the first of them the reference.

    Attributes:
        patient: name or code.
        unit: of the time: "week" or "day".
        scans: those that could be compared.
    """

    patient: str
    unit: str
    scans: list[ScanMotion]

    def to_dict(self) -> dict:
        return asdict(self)


def measure_patient(
    scans: Sequence[Scan], class_names: Sequence[str], bones: str, organs: Sequence[str]
) -> tuple[PatientMotion, list[str]]:
    """Compares all scans of a patient with the first that has bones.

    Returns:
        The patient, and a line for every scan that can't be compared.
    """
    values = {name: class_names.index(name) for name in (bones, *organs)}
    first, first_scan, found, problems = {}, None, [], []
    for scan in scans:
        try:
            labels, affine = read_labels(scan.file, class_names)
            now = by_name(find_structures(labels, affine, list(values.values())), values)
            refuse_few_bones(scan, now.get(bones), bones)
            if first_scan is None:
                first, first_scan = now, scan
                moved = {name: compare_organ(now.get(name), now.get(name), None) for name in organs}
                found.append(ScanMotion(name_of(scan, scan), time_of(scan, scan), str(scan.file), None, moved))
            else:
                match = registered(scan, now[bones], first[bones])
                moved = {name: compare_organ(first.get(name), now.get(name), match.motion) for name in organs}
                lain = bone_motion(match, first[bones])
                name, time = name_of(scan, first_scan), time_of(scan, first_scan)
                found.append(ScanMotion(name, time, str(scan.file), lain, moved))
        except Exception as error:  # of one file; the others go on
            reason = one_line_reason(error)
            problems.append(reason if str(scan.file) in reason else f"{scan.file}: {reason}")
    return PatientMotion(scans[0].patient, "day" if scans[0].date else "week", found), problems


def by_name(found: dict[int, Structure], values: dict[str, int]) -> dict[str, Structure]:
    return {name: found[value] for name, value in values.items() if value in found}


def name_of(scan: Scan, first: Scan) -> str:
    if scan.date:
        return f"Day {time_of(scan, first)}"
    return f"Week {scan.week}" if scan.week is not None else "Scan"


def time_of(scan: Scan, first: Scan) -> int:
    """The week, or the days since the first scan."""
    return (scan.when or 0) - ((first.when or 0) if scan.date else 0)


def refuse_few_bones(scan: Scan, bones: Structure | None, name: str) -> None:
    count = len(bones.surface) if bones else 0
    if count < LEAST_POINTS:
        raise UserError(
            f"{scan.file}: found {count} points of the surface of {name}, expected at least {LEAST_POINTS}; look at "
            "the label map, or name the class of the bones with --bones"
        )


def registered(scan: Scan, moving: Structure, fixed: Structure) -> Match:
    """The bones moved onto those of the first scan, or a refusal."""
    match = register(moving.surface, fixed.surface)
    if match.residual_mm > MOST_RESIDUAL_MM or match.matched < LEAST_MATCHED:
        raise UserError(
            f"{scan.file}: the bones could not be registered: found {match.residual_mm:.1f} mm between the surfaces, "
            f"{match.matched:.0%} of them matched; expected at most {MOST_RESIDUAL_MM} mm and at least "
            f"{LEAST_MATCHED:.0%}; look at the label map: is it the same patient?"
        )
    return match


def bone_motion(match: Match, first: Structure) -> BoneMotion:
    """From the first scan to this one: the inverse of the motion that registers this one."""
    back = match.motion.inverse()
    left, behind, head = (back(first.centroid) - first.centroid).tolist()
    pitch, yaw, roll = back.degrees.tolist()
    return BoneMotion(left, behind, head, pitch, yaw, roll, match.residual_mm, match.matched)


def compare_organ(first: Structure | None, now: Structure | None, motion: Rigid | None) -> OrganMotion:
    """An organ against its first scan.

    Args:
        first: in the first scan, or None where it is not there.
        now: in this scan, likewise.
        motion: registers the bones of this scan with those of the first; None for the first scan itself.
    """
    if now is None or first is None:
        missing = "not found in this scan" if now is None else "not found in the first scan"
        return OrganMotion(0.0 if now is None else now.volume_ml, note=missing)
    cut = now.cut * ["in this scan"] + first.cut * ["in the first scan"]
    note = f"touches the border of the volume {' and '.join(cut)}" if cut else ""
    if motion is None:
        return OrganMotion(now.volume_ml, note=f"touches the border of the volume {cut[0]}" if cut else "")
    change = now.volume_ml - first.volume_ml
    found = OrganMotion(now.volume_ml, change, 100 * change / first.volume_ml, note=note)
    found.left_mm, found.back_mm, found.head_mm = (motion(now.centroid) - first.centroid).tolist()
    if first.has_surface and now.has_surface:
        there, here = first.surface, now.surface.moved(motion)
        apart = [np.abs(distances) for distances in (there.distances(here.points), here.distances(there.points))]
        found.surface_max_mm = float(max(distances.max() for distances in apart))
        found.surface_p95_mm = float(max(np.percentile(distances, 95) for distances in apart))
        distance = there.distances(motion(now.voxels))
        found.outside = {f"{grown}_mm": float((distance > grown).mean()) for grown in GROWN_MM}
    return found
