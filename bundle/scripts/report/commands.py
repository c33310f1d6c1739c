"""Reports on label maps on disk, made with any tool, and comparisons of reports.

python -m scripts.report evaluate --truth DIR --prediction DIR --output_dir DIR --class_names "['background',...]"
python -m scripts.report compare A B --output_dir DIR
python -m scripts.report code NAME --anonymise WORD
python -m scripts.report view --image FILE --labels FILE --output FILE --class_names "['background',...]"
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.data import datalist
from scripts.data.anonymise import case_code, secret_word
from scripts.data.label_maps import (
    files_by_key,
    label_key,
    pair_truth_and_prediction,
    read_labels,
    read_volume,
    refuse_other_grid,
)
from scripts.data.names import DOUBT, MAPS, patient_of, scan_key
from scripts.report import comparison, page, provenance, viewer
from scripts.report.files import LIMITS, build, write
from scripts.report.schema import CaseRecord
from scripts.report.scoring import CasePainter, ScoringJob, score_all
from scripts.report.summary import lines
from scripts.run import knobs
from scripts.series.reader import read_series

logger = logging.getLogger(__name__)


def evaluate(
    truth: str,
    prediction: str,
    output_dir: str,
    class_names: Sequence[str],
    images: str | None = None,
    datalist_file: str | None = None,
    tolerance_mm: float = 2.0,
    anonymise: bool | str = False,
    workers: int = 0,
) -> None:
    """Scores label maps on disk, made with any tool, and writes the report.

    Files are paired by name, where a `_seg` at the end is ignored, or by patient and week. A file that can't be scored
    is named in one line. All other files are scored, and the exit status is 1. Research use only.

    Args:
        truth: folder of NIfTI label maps.
        prediction: folder of NIfTI label maps.
        output_dir: folder of the report.
        class_names: names of the values 0, 1, ..., background first.
        images: folder of the images, for the pictures.
        datalist_file: a data list that says which scans are of one patient, where the names of files don't.
        tolerance_mm: surfaces that are no further apart agree, for the surface Dice.
        anonymise: replaces the names of cases and patients by codes. With a secret word nobody can guess the names.
        workers: processes; 0 for one on each core where there are cases enough, 1 for none beside this one.
    """
    class_names = knobs.check_class_names(class_names)
    knobs.check({"tolerance_mm": tolerance_mm})
    pairs, problems = pair_truth_and_prediction(truth, prediction)
    image_of, more = files_by_key(images, "images", (*MAPS, DOUBT)) if images else ({}, [])
    problems += more
    patients = patients_of(datalist_file) if datalist_file else {}
    truths = [true for true, _ in pairs]
    if images:
        refuse_no_match(truths, image_of, f"--images {images}", "pictures without the image")
    if datalist_file:
        refuse_no_match(truths, patients, f"--datalist_file {datalist_file}", "the patient is read from the name")
    keys = [label_key(true) for true in truths]
    jobs = [ScoringJob(*both, image_of.get(key), patients.get(key)) for key, both in zip(keys, pairs)]
    results = score_all(jobs, class_names, float(tolerance_mm), int(workers))
    records = [result for result in results if isinstance(result, CaseRecord)]
    problems += [result for result in results if isinstance(result, str)]
    for line in problems:
        print(line, file=sys.stderr)
    if not records:
        raise UserError(f"{prediction}: no case could be scored; mend the files that the lines above name")
    origin = [
        ["Prediction", str(prediction)],
        ["Truth", str(truth)],
        ["Cases", f"{len(records)} scored, {len(problems)} file(s) left out"],
        *provenance.of_run("cpu", []),
    ]
    report = build(
        records,
        class_names,
        origin,
        tolerance_mm=float(tolerance_mm),
        problems=problems,
        anonymise=anonymise,
        draw=CasePainter(jobs, class_names),
    )
    file = write(report, output_dir)
    print("\n".join(lines(report.summary)))
    print(f"report: {file}")
    if problems:
        raise UserError(f"{len(problems)} file(s) left out, {len(records)} case(s) scored; see the lines above")


def refuse_no_match(truths: Sequence[Path], found: Mapping[str, object], option: str, without: str) -> None:
    """Refuses an option that has nothing for any case, and warns where it has nothing for some.

    Args:
        truths: the true label map of each case.
        found: what the option has, by the key of a case.
        option: name and value, for the message.
        without: what becomes of a case that it has nothing for.
    """
    missing = [true for true in truths if label_key(true) not in found]
    if len(missing) == len(truths):
        raise UserError(
            f"{option}: found nothing for any case, such as {missing[0].name}; expected equal names, or equal patient "
            "and week; rename the files, or leave the option out"
        )
    if missing:
        logger.warning(
            f"{option}: found nothing for {len(missing)} of {len(truths)} cases, such as {missing[0].name} ({without})"
        )


def patients_of(file: str) -> dict[str, str]:
    """The patient of every case by its key, as a data list has it. A name of a label counts before one of an image."""
    content = read_json(Path(file))
    by_image: dict[str, str] = {}
    by_label: dict[str, str] = {}
    for split in datalist.SPLITS:
        for entry in datalist.entries_of(content, split, Path(file)):
            paths = paths_of(entry, split, file)
            patient = patient_of(entry if isinstance(entry, dict) else paths)
            by_image[label_key(paths["image"])] = patient
            if "label" in paths:
                by_label[label_key(paths["label"])] = patient
    return by_image | by_label


def paths_of(entry: object, split: str, file: str) -> dict[str, str]:
    """The paths of image and label in an entry of a data list, which may be the plain path of an image."""
    paths: dict = entry if isinstance(entry, dict) else {"image": entry}
    found = {key: paths[key] for key in ("image", "label") if paths.get(key) not in (None, "")}
    for key, path in ({"image": None} | found).items():
        if not isinstance(path, str):
            raise UserError(
                f"{file}: an entry under {split} has the {key} {path!r}, expected the path of a file as text: {entry}; "
                "correct it"
            )
    return found


def compare(*runs: str, output_dir: str) -> None:
    """Compares two or more runs and writes `comparison.html`, `.md` and `.json`. Research use only.

    Args:
        runs: `metrics.json` of each, or the folder that holds it; the others are compared with the first.
        output_dir: folder of the comparison.
    """
    found = comparison.compare([str(run) for run in runs]) | {"limits": list(LIMITS[:1])}
    write_json(found, Path(output_dir) / "comparison.json")
    file = page.write_page(page.comparison_page(found), Path(output_dir), "comparison")
    print(file.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"comparison: {file}")


def code(name: str, anonymise: bool | str = "", patient: str = "") -> str:
    """The code that a case has in a report made with this secret word."""
    return case_code(str(name), str(patient) or scan_key(str(name))[0], secret_word(anonymise) or "")


def view(
    image: str, labels: str, output: str, class_names: Sequence[str], niivue: str | None = None, title: str = ""
) -> None:
    """Writes a page to look at an image and its label map in the browser. Research use only.

    Args:
        image: NIfTI volume, or folder of one DICOM series.
        labels: label map on the same grid.
        output: the page, `NAME_view.html`.
        class_names: names of the values 0, 1, ..., background first.
        niivue: `niivue.umd.js` of the npm package @niivue/niivue; looked for in `node_modules` if it is not given.
        title: of the page; NAME if it is not given.
    """
    class_names = knobs.check_class_names(class_names)
    file = Path(output)
    if file.suffix.lower() != ".html":
        raise UserError(f"{file}: expected the name of a page to write, such as {file.name}_view.html")
    script = viewer.find(niivue)
    if script is None:
        raise UserError(f"NiiVue is not installed here; {viewer.INSTALL}, or name its niivue.umd.js with --niivue")
    volume, affine = read_series(image) if Path(image).is_dir() else read_volume(image)
    if not viewer.has_planes(image, volume.shape):
        raise UserError(f"{image}: found slices, which have no page; expected a volume, give one")
    values, own = read_labels(labels, class_names)
    refuse_other_grid(labels, values, own, (volume, affine), Path(image).name)
    viewer.write(file, volume, values, affine, class_names, str(title) or file.stem.removesuffix("_view"), script)
    print(f"page: {file}")
