"""Finds the label maps of a folder and puts the scans of every patient in their order in time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from scripts.core.errors import UserError
from scripts.data.folders import existing_folder, nifti_files
from scripts.data.names import case_name, scan_date, scan_key

CODED = re.compile(r"^(?P<patient>P[0-9a-f]{8})-W(?P<week>\d+)(?!\d)")  # as an anonymised inference names its files


@dataclass(frozen=True)
class Scan:
    """One label map.

    Attributes:
        patient: from the name of the file.
        file: the label map.
        week: its week, where the name has one.
        date: its date as eight digits, where the name has one.
    """

    patient: str
    file: Path
    week: int | None = None
    date: str | None = None

    @property
    def when(self) -> int | None:
        """The week, or the day on the calendar; None where the name has neither."""
        return day_of(self.date) if self.date else self.week


def scan_of(name: str, file: Path) -> Scan:
    """The scan of a label map, from a name: its own, or that of its image."""
    coded = CODED.match(name)
    if coded:
        return Scan(coded["patient"], file, int(coded["week"]))
    patient, week = scan_key(name)
    if week is None:  # a map and its image are of the same patient
        patient = re.sub(r"_seg$", "", patient)
    return Scan(patient, file, week, scan_date(name) if week is None else None)


def find_label_maps(folder: str | Path) -> list[Path]:
    """The label maps of a folder: files that end in `_seg`, or all NIfTI files where there is no such file."""
    files = nifti_files([existing_folder(folder, "predictions")])
    named = [file for file in files if case_name(file).endswith("_seg")]
    if not files:
        raise UserError(f"{folder}: contains no NIfTI file; expected label maps, as inference leaves them")
    return named or files


def by_patient(scans: Iterable[Scan]) -> tuple[dict[str, list[Scan]], list[str]]:
    """The scans of every patient in order, and a line for every file that has no place in it.

    A patient may have one scan without week and date: there is nothing to put in order.
    """
    patients: dict[str, list[Scan]] = {}
    for scan in scans:
        patients.setdefault(scan.patient, []).append(scan)
    problems, found = [], {}
    for patient, own in sorted(patients.items()):
        kept: dict[int | None, Scan] = {}
        for scan in sorted(own, key=lambda one: one.file):
            if scan.when is None and len(own) > 1:
                problems.append(
                    f"{scan.file}: found neither week nor date in its name; expected Case_004_Week0, rename it"
                )
            elif scan.date and any(other.week is not None for other in own):
                problems.append(
                    f"{scan.file}: found a date in its name, other scans of {patient} have a week; expected one of the "
                    "two, rename it"
                )
            elif scan.when in kept:
                same = kept[scan.when].file.name
                problems.append(f"{scan.file}: the same patient and time as {same}; expected one, move one away")
            else:
                kept[scan.when] = scan
        found[patient] = [kept[when] for when in sorted(kept, key=lambda when: when or 0)]
    return {patient: own for patient, own in found.items() if own}, problems


def day_of(digits: str) -> int | None:
    """The number of a day on the calendar; None if there is no such day."""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).toordinal()
    except ValueError:
        return None
