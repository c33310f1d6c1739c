"""Reports on label maps that lie on disk, of any tool, and comparisons of reports.

python -m scripts.report evaluate --truth DIR --prediction DIR --output_dir DIR --class_names "['background',...]"
python -m scripts.report compare A B --output_dir DIR
python -m scripts.report code NAME --anonymise WORD
"""

import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from scripts.core.errors import UserError
from scripts.core.files import atomic_write, read_json, write_json
from scripts.data import datalist
from scripts.data.anonymise import case_code
from scripts.data.label_maps import label_key, pair_truth_and_prediction, read_labels, read_volume, refuse_other_grid
from scripts.data.layouts import case_name, nifti_files, scan_key
from scripts.report import comparison, page, provenance, records
from scripts.report.files import build, write
from scripts.report.summary import lines
from scripts.run import knobs


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
    """Scores label maps of any tool that lie on disk, and writes the report.

    Files are paired by name (`_seg` at the end apart) or by patient and week. What can't be scored is named, one line
    a file; the rest is scored all the same, and the exit status is 1.

    Args:
        truth: folder of NIfTI label maps.
        prediction: folder of NIfTI label maps.
        output_dir: folder of the report.
        class_names: names of the values 0, 1, ..., background first.
        images: folder of the images, for the pictures.
        datalist_file: a datalist, where it knows better than the names which scans are of one patient.
        tolerance_mm: surfaces nearer than this agree, for the surface Dice.
        anonymise: replaces the names of cases and patients by codes; a word makes them impossible to guess.
        workers: threads; 0 for one a core.
    """
    class_names = knobs.check_class_names(class_names)
    knobs.check({"tolerance_mm": tolerance_mm})
    pairs, problems = pair_truth_and_prediction(truth, prediction)
    image_of = {label_key(path): path for path in nifti_files([Path(images)])} if images else {}
    patient_of = patients_of(datalist_file) if datalist_file else {}

    def attempt(couple: tuple[Path, Path]) -> dict | str:
        key = label_key(couple[0])
        try:
            return score(*couple, class_names, image_of.get(key), patient_of.get(key), float(tolerance_mm))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        results = list(tqdm(pool.map(attempt, pairs), total=len(pairs), desc="evaluation", unit="case", disable=None))
    records = [result for result in results if isinstance(result, dict)]
    problems += [result for result in results if isinstance(result, str)]
    for line in problems:
        print(line, file=sys.stderr)
    if not records:
        raise UserError(f"{prediction}: not one case could be scored; see the lines above")
    origin = [
        ["Prediction", str(prediction)],
        ["Truth", str(truth)],
        ["Cases", f"{len(records)} scored, {len(problems)} file(s) left out"],
        *provenance.of_run("cpu", []),
    ]
    content = build(
        records, class_names, origin, tolerance_mm=float(tolerance_mm), problems=problems, anonymise=anonymise
    )
    file = write(content, output_dir)
    print("\n".join(lines(content)))
    print(f"report: {file}")
    if problems:
        raise UserError(f"{len(problems)} file(s) left out, {len(records)} case(s) scored; see the lines above")


def score(
    truth: Path,
    prediction: Path,
    class_names: Sequence[str],
    image: Path | None,
    patient: str | None,
    tolerance_mm: float,
) -> dict:
    """The record of one case on disk.

    Raises:
        UserError: a file that can't be read or lies on another grid than the truth.
    """
    expected = read_labels(truth, class_names)
    found, affine = read_labels(prediction, class_names)
    refuse_other_grid(prediction, found, affine, expected, truth.name)
    volume = None
    if image is not None:
        volume, affine = read_volume(image)
        refuse_other_grid(image, volume, affine, expected, truth.name)
    name = re.sub(r"_seg$", "", case_name(prediction))
    options = {"image": volume, "patient": patient, "tolerance_mm": tolerance_mm}
    record = records.examine(name, found, *expected, class_names, **options)
    return record | {"prediction_file": str(prediction), "reference_file": str(truth)}


def patients_of(file: str) -> dict[str, str]:
    """Patient by the key of an image, as a datalist knows it."""
    content = read_json(Path(file))
    entries = [e for split in datalist.SPLITS for e in content.get(split, []) if isinstance(e, dict) and "image" in e]
    return {label_key(e["image"]): str(e.get("patient") or scan_key(e["image"])[0]) for e in entries}


def compare(*runs: str, output_dir: str) -> None:
    """Puts two or more runs side by side: `comparison.html`, `.md` and `.json`.

    Args:
        runs: `metrics.json` of each, or the folder that holds it; the first is what the others are compared with.
        output_dir: folder of the comparison.
    """
    content = comparison.compare([str(run) for run in runs])
    write_json(content, Path(output_dir) / "comparison.json")
    for name, text in (
        ("comparison.md", page.comparison_markdown(content)),
        ("comparison.html", page.comparison_html(content)),
    ):
        with atomic_write(Path(output_dir) / name) as partial:
            partial.write_text(text, encoding="utf-8")
    print(page.comparison_markdown(content))
    print(f"comparison: {Path(output_dir) / 'comparison.html'}")


def code(name: str, anonymise: str = "", patient: str = "") -> str:
    """The code that a case has in a report made with this word."""
    return case_code(str(name), str(patient) or scan_key(str(name))[0], str(anonymise))
