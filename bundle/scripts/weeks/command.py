"""The command `python -m scripts.weeks`: the motion of the organs between the scans of every patient of a folder."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.core.paths import CONFIGS
from scripts.data.anonymise import secret_word
from scripts.data.decathlon import dataset_classes
from scripts.data.names import case_name
from scripts.report import provenance
from scripts.run import knobs
from scripts.weeks.compare import compare, organs_of
from scripts.weeks.files import write
from scripts.weeks.scans import find_label_maps, scan_of


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
    word = secret_word(anonymise)
    scans = [scan_of(case_name(file), file) for file in files]
    weeks = compare(scans, names, bones, organs, word)
    for line in weeks.problems:
        print(line, file=sys.stderr)
    if weeks.problems and not weeks.patients:
        raise UserError(
            f"{len(weeks.problems)} file(s) left out, and without them no patient has two scans; see the lines above, "
            "nothing is written"
        )
    weeks.about = [
        ["Label maps", str(predictions) if word is None else "not shown"],
        ["Bones", str(bones)],
        ["Organs", ", ".join(organs)],
        *[pair for pair in provenance.of_run("cpu", []) if pair[0] in ("Date", "Versions")],
    ]
    file = write(weeks, output_dir)
    print(f"{len(weeks.patients)} patient(s) with two scans or more, {len(weeks.single)} with one: {file}")
    if weeks.problems:
        raise UserError(f"{len(weeks.problems)} file(s) left out; see the lines above")


def classes_of(folder: str) -> Sequence[str]:
    """The classes that inference has noted beside its label maps, or those of the data set or of the training."""
    noted = Path(folder) / "metrics.json"
    found = read_json(noted).get("class_names") if noted.is_file() else None
    return found or dataset_classes(folder) or read_json(CONFIGS / "train.json")["class_names"]


def refuse_unknown_class(name: str, class_names: Sequence[str]) -> None:
    if name not in class_names[1:]:
        nearest = difflib.get_close_matches(str(name), class_names[1:], n=1, cutoff=0)
        raise UserError(
            f"{name}: no such class; expected one of {', '.join(class_names[1:])}; did you mean {nearest[0]}? Name the "
            "classes of these maps with --class_names"
        )
