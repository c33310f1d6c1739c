"""The command `python -m scripts.weeks`: the motion of the organs between the scans of every patient of a folder."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.core.paths import CONFIGS
from scripts.data.anonymise import patient_code, secret_word
from scripts.data.layouts import case_name, dataset_classes
from scripts.report import provenance
from scripts.run import knobs
from scripts.weeks.files import anonymous, write
from scripts.weeks.motion import PatientMotion, measure_patient
from scripts.weeks.population import population
from scripts.weeks.scans import Scan, by_patient, find_label_maps, scan_of
from scripts.weeks.sections import Weeks

NOT_ORGANS = ("body",)  # beside the background and the bones


def main(
    predictions: str,
    output_dir: str,
    class_names: Sequence[str] | None = None,
    bones: str = "bones",
    organs: Sequence[str] | None = None,
    anonymise: bool | str = False,
) -> None:
    """Measures how organs move between the scans of a patient, relative to the bones. Research use only.

    The bones of every scan are registered with those of the patient's first scan. A file that can't be compared is
    named in one line. All others are compared, and the exit status is 1.

    Example: python -m scripts.weeks --predictions DIR --output_dir DIR

    Args:
        predictions: folder of label maps, as inference leaves them; weeks or dates are read from their names.
        output_dir: folder of weeks.html, weeks.md, weeks.csv and weeks.json.
        class_names: names of the values 0, 1, ...; by default those that inference has noted in this folder, those of
            its dataset.json or those of train.json.
        bones: the class that is registered.
        organs: the classes that are measured; by default all but background, body and the bones.
        anonymise: replaces the names of patients by codes. With a secret word nobody can guess the names.
    """
    names = knobs.check_class_names(class_names or classes_of(predictions))
    organs = [organs] if isinstance(organs, str) else organs or organs_of(names, bones)
    for name in (bones, *organs):
        refuse_unknown_class(name, names)
    files = find_label_maps(predictions)
    patients, problems = by_patient([scan_of(case_name(file), file) for file in files])
    weeks, lines = compare(patients, names, bones, list(organs), secret_word(anonymise))
    problems += lines
    for line in problems:
        print(line, file=sys.stderr)
    word = secret_word(anonymise)
    weeks.about = [
        ["Label maps", str(predictions) if word is None else "not shown"],
        ["Bones", str(bones)],
        ["Organs", ", ".join(organs)],
        *[pair for pair in provenance.of_run("cpu", []) if pair[0] in ("Date", "Versions")],
    ]
    named = [f"{len(problems)} file(s); their names were printed when this was made"] if problems else []
    weeks.problems = problems if word is None else named
    file = write(weeks, output_dir)
    print(f"{len(weeks.patients)} patient(s) with two scans or more, {len(weeks.single)} with one: {file}")
    if problems:
        raise UserError(f"{len(problems)} file(s) left out; see the lines above")


def compare(
    patients: dict[str, list[Scan]], names: Sequence[str], bones: str, organs: list[str], word: str | None
) -> tuple[Weeks, list[str]]:
    """Measures all patients with two scans or more.

    Returns:
        What the page says, without its origin, and a line for every scan that can't be compared.
    """
    compared: list[PatientMotion] = []
    single, problems = [], []
    for patient, scans in tqdm(patients.items(), desc="weeks", unit="patient", disable=None):
        if len(scans) < 2:
            single.append(patient)
            continue
        found, lines = measure_patient(scans, names, bones, organs)
        problems += lines
        if len(found.scans) > 1:
            compared.append(found)
        elif found.scans:
            single.append(patient)
    if word is not None:
        compared, single = anonymous(compared, word), [patient_code(patient, word) for patient in single]
    return Weeks(compared, single, list(names), organs, population(compared, organs), []), problems


def classes_of(folder: str) -> Sequence[str]:
    """The classes that inference has noted beside its label maps, or those of the data set or of the training."""
    noted = Path(folder) / "metrics.json"
    found = read_json(noted).get("class_names") if noted.is_file() else None
    return found or dataset_classes(folder) or read_json(CONFIGS / "train.json")["class_names"]


def organs_of(class_names: Sequence[str], bones: str) -> list[str]:
    return [name for name in class_names[1:] if name not in (bones, *NOT_ORGANS)]


def refuse_unknown_class(name: str, class_names: Sequence[str]) -> None:
    if name not in class_names[1:]:
        nearest = difflib.get_close_matches(str(name), class_names[1:], n=1, cutoff=0)
        raise UserError(
            f"{name}: no such class; expected one of {', '.join(class_names[1:])}; did you mean {nearest[0]}? Name the "
            "classes of these maps with --class_names"
        )
