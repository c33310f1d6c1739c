"""From the scans of all patients to what the page says, and to the section of an inference's report."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from scripts.data.anonymise import patient_code
from scripts.report.schema import Motion
from scripts.weeks.motion import PatientMotion, measure_patient
from scripts.weeks.population import AxisStatistics, population
from scripts.weeks.scans import Scan, by_patient

logger = logging.getLogger(__name__)

BONES = "bones"
NOT_ORGANS = ("body",)  # beside the background and the bones


@dataclass
class Weeks:
    """All that the page says.

    Attributes:
        patients: with two scans or more.
        single: names of the patients with one scan.
        class_names: names of the values 0, 1, ...
        organs: names of the classes that were measured.
        population: of `scripts.weeks.population.population`.
        coded: whether names are codes, so that no name of a file may be shown.
        problems: a line for every file that was left out.
        about: pairs of a label and a text.
    """

    patients: list[PatientMotion]
    single: list[str]
    class_names: list[str]
    organs: list[str]
    population: dict[str, dict[str, AxisStatistics]]
    coded: bool = False
    problems: list[str] = field(default_factory=list)
    about: list[list[str]] = field(default_factory=list)

    @property
    def shown_problems(self) -> list[str]:
        """The lines as a page may show them."""
        if not self.coded or not self.problems:
            return self.problems
        return [f"{len(self.problems)} file(s); their names were printed when this was made"]


def compare(
    scans: Iterable[Scan],
    class_names: Sequence[str],
    bones: str,
    organs: Sequence[str],
    word: str | None = None,
    progress: bool = True,
) -> Weeks:
    """Measures all patients with two scans or more.

    Args:
        scans: of all patients, in any order.
        class_names: names of the values 0, 1, ...
        bones: the class that is registered.
        organs: the classes that are measured.
        word: secret word of the codes in place of names; None for the names themselves.
        progress: whether to show a bar, where the output is a terminal.
    """
    patients, problems = by_patient(scans)
    compared: list[PatientMotion] = []
    single = []
    for patient, own in tqdm(patients.items(), desc="weeks", unit="patient", disable=None if progress else True):
        found, lines = measure_patient(own, class_names, bones, organs) if len(own) > 1 else (None, [])
        problems += lines
        if found is not None and len(found.scans) > 1:
            compared.append(found)
        elif found is None or found.scans:
            single.append(patient)
    if word is not None:  # in the order of the codes, as that of the names may tell something
        compared = sorted((anonymous(patient, word) for patient in compared), key=lambda one: one.patient)
        single = sorted(patient_code(patient, word) for patient in single)
    figures = population(compared, organs)
    return Weeks(compared, single, list(class_names), list(organs), figures, word is not None, problems)


def anonymous(patient: PatientMotion, word: str) -> PatientMotion:
    """A patient with a code in place of the name, and without the names of files."""
    scans = [replace(scan, file="") for scan in patient.scans]
    return replace(patient, patient=patient_code(patient.patient, word), scans=scans)


def organs_of(class_names: Sequence[str], bones: str) -> list[str]:
    return [name for name in class_names[1:] if name not in (bones, *NOT_ORGANS)]


def report_section(scans: Sequence[Scan], class_names: Sequence[str], word: str | None) -> Motion | None:
    """What the report of an inference says of the weeks; None without bones or without a second scan of a patient."""
    patients = [scan.patient for scan in scans]
    if BONES not in class_names or len(set(patients)) == len(patients):
        return None
    weeks = compare(scans, class_names, BONES, organs_of(class_names, BONES), word, progress=False)
    for line in weeks.problems:
        logger.warning(line)
    rows = []
    for patient in weeks.patients:
        for scan in patient.scans[1:]:
            residual = None if scan.bones is None else scan.bones.residual_mm
            for organ, found in scan.organs.items():
                shift = [found.left_mm, found.back_mm, found.head_mm]
                figures = [found.change_percent, *shift, found.surface_max_mm, residual]
                rows.append((patient.patient, scan.name, organ, figures, found.note))
    return Motion(rows, weeks.shown_problems)
