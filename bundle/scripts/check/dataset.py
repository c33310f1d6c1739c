"""Checks a data set before it is used: every file is complete, every pair is on one grid, no case is listed twice.

`python -m scripts.check` checks a folder. Training calls `stop_on_errors` before it starts; evaluation and inference
call `find_faults` for each case.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.check.cache import MEMORY_NAME, collect_facts, inspect_or_error
from scripts.check.nature import describe
from scripts.check.nifti import RULES, printable
from scripts.check.rules import ListedCase, case_faults, find_copies, find_oddities
from scripts.check.table import check_table
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.core.paths import CONFIGS
from scripts.core.processes import is_main_process, sum_of_all
from scripts.data import datalist as lists
from scripts.data.decathlon import dataset_classes
from scripts.data.layouts import find_pairs
from scripts.data.names import scan_key
from scripts.data.slices import refuse_what_reader_cannot
from scripts.run.knobs import check_class_names

logger = logging.getLogger(__name__)

REPORT = "check.json"
PATHS = ("image", "label")
LABELLED = ("training", "validation")  # the splits whose cases must have a label; a test case without one is a warning


@dataclass
class Findings:
    """The result of a check.

    Attributes:
        errors: one line for each reason why the data must not be used.
        warnings: one line for each thing that a person should look at.
        files: facts on every file by path (see `scripts.check.nifti.inspect_volume`), or {"error": line}.
        cases: the cases that were checked, in order.
        read: number of files that were read; the facts on the others were remembered.
    """

    errors: list[str]
    warnings: list[str]
    files: dict[str, dict]
    cases: list[ListedCase]
    read: int


def check_dataset(
    cases: dict,
    class_names: Sequence[str],
    output_dir: str | Path | None = None,
    workers: int = 0,
    *,
    fresh: bool = False,
    channels: int | None = None,
    pieces: bool = False,
) -> Findings:
    """Checks lists of cases. A file that has not changed since an earlier check is not read again.

    Args:
        cases: lists of {"image", "label"} by split, and `patients` by image, as from
            `scripts.data.cases.cases_of_run`.
        class_names: names of the values 0, 1, ..., background first.
        output_dir: folder in which the facts are remembered; None reads all files and writes nothing.
        workers: number of threads; 0 for one per core.
        fresh: read all files, even those that have not changed.
        channels: number of channels that every image must have; None for that of most images.
        pieces: whether the facts on label maps shall say how their classes hang together.
    """
    patients = cases.get("patients", {})
    listed = [
        ListedCase(
            split,
            str(patients.get(entry["image"], scan_key(entry["image"])[0])),
            str(Path(entry["image"]).absolute()),
            str(Path(entry["label"]).absolute()) if entry.get("label") else None,
        )
        for split in lists.SPLITS
        for entry in cases.get(split, [])
    ]
    paths = [path for case in listed for path in (case.image, case.label) if path]
    files, read = collect_facts(paths, Path(output_dir) / MEMORY_NAME if output_dir else None, workers, fresh, pieces)
    channels = channels or usual_channels([files[case.image] for case in listed])
    errors, warnings, sound = find_leaks(listed), [], []
    unscored: dict[str, list[str]] = {}
    for case in listed:
        found = case_faults(case.image, case.label, files, class_names, channels)
        errors += found
        sound += [] if found else [case]  # a case with an error gets no warnings
        if not case.label and case.split in LABELLED:
            line = f"{printable(case.image)}: no label for it under {case.split}"
            errors.append(f"{line}; expected one, add it or remove the case from the list")
        elif not case.label:
            unscored.setdefault(case.split, []).append(case.image)
    for split, images in unscored.items():
        more = f" (and {len(images) - 1} more)" if len(images) > 1 else ""
        warnings.append(f"{printable(images[0])}{more}: no label for it under {split}, so no score can be computed")
    copied, doubtful = find_copies(sound, files)
    warnings += doubtful + find_oddities(sound, files, class_names)
    return Findings(list(dict.fromkeys(errors + copied)), warnings, files, listed, read)


def usual_channels(facts: Sequence[dict]) -> int | None:
    """The number of channels that most images have; None where no image can be used. No network takes two numbers."""
    counts = Counter(found.get("channels", 1) for found in facts if "error" not in found)
    return max(counts, key=lambda number: counts[number], default=None)


def find_faults(
    path: str | Path,
    label_path: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    channels: int | None = None,
    kept: dict | None = None,
) -> list[str]:
    """Says why a single case can't be used. The list is empty if it can be used.

    Args:
        path: path of the image.
        label_path: path of its label map, if there is one.
        class_names: names of the values 0, 1, ...
        channels: number of channels that the image must have; None for any number.
        kept: receives the volumes that were read, as nibabel images by path.
    """
    image, label = str(path), str(label_path) if label_path else None
    files = {file: inspect_or_error(file, kept) for file in (image, label) if file}
    return case_faults(image, label, files, class_names, channels)


def stop_on_errors(
    data: dict,
    class_names: Sequence[str],
    output_dir: str,
    workers: int = 0,
    channels: int | None = None,
    reader: str | None = None,
    flip_probability: float = 1.0,
) -> None:
    """Runs the check as a step of a run: it logs all findings, and an error ends the run before it starts.

    The main process checks, and all others wait for it: none of them opens a file that has not been checked.

    Args:
        data: the run's cases, see `scripts.data.cases.cases_of_run`.
        class_names: names of the values 0, 1, ...
        output_dir: folder of `check.json` and of the remembered facts.
        workers: number of threads; 0 for one per core.
        channels: number of channels that every image must have.
        reader: the reader that the configuration names.
        flip_probability: of mirror images in training; 0 where there are none to warn of.

    Raises:
        UserError: the first error, and the number of the others.
    """
    for case in (case for split in lists.SPLITS for case in data.get(split, [])):
        refuse_what_reader_cannot(case["image"], reader)
    errors = []
    if is_main_process():
        errors = log_check(data, class_names, output_dir, workers, channels, flip_probability)
    if sum_of_all(len(errors)) and not errors:
        raise SystemExit(1)  # the main process says why
    if errors:
        more = f" (and {len(errors) - 1} more, see the log or {Path(output_dir) / REPORT})" if len(errors) > 1 else ""
        raise UserError(errors[0] + more)


def log_check(
    data: dict,
    class_names: Sequence[str],
    output_dir: str,
    workers: int,
    channels: int | None,
    flip_probability: float,
) -> list[str]:
    """Checks, logs all findings, and returns the errors; see `stop_on_errors`."""
    began = time.perf_counter()
    found = check_dataset(data, class_names, output_dir, workers, channels=channels)
    file = write_check(found, class_names, output_dir)
    for kind, texts in (("warning", found.warnings), ("error", found.errors)):
        for text in texts:
            logger.log(logging.ERROR if kind == "error" else logging.WARNING, f"data check: {kind}: {text}")
    logger.info(
        f"data check: {len(found.files)} files in {time.perf_counter() - began:.1f} s ({found.read} read, the others "
        f"unchanged), {len(found.errors)} errors, {len(found.warnings)} warnings, {file}"
    )
    if said := describe(found.cases, found.files, class_names, flip_probability > 0):
        logger.info(f"data check: {'; '.join(said)}; scripts.plan makes settings for such data")
    return found.errors


def find_leaks(cases: Sequence[ListedCase]) -> list[str]:
    """Finds a patient who is in two splits. Reading a datalist does the same; this is for other lists of cases."""
    first = {case.image: case for case in reversed(cases)}.values()  # an image that is listed twice is another error
    content = {split: [case._asdict() for case in first if case.split == split] for split in lists.SPLITS}
    fault = lists.leak_fault(content, "the lists")
    return [fault] if fault else []


def write_check(found: Findings, class_names: Sequence[str], output_dir: str | Path) -> Path:
    """Writes `check.json`, which records the check and can be read by other programs."""
    file = Path(output_dir) / REPORT
    content = {
        "rules": RULES,
        "class_names": list(class_names),
        "errors": found.errors,
        "warnings": found.warnings,
        "cases": [case._asdict() for case in found.cases],
        "files": found.files,
    }
    write_json(content, file, indent=1)
    return file


def check_listed(
    dataset_dir: str,
    datalist: str | None,
    class_names: Sequence[str] | None,
    output_dir: str,
    workers: int,
    fresh: bool = False,
    pieces: bool = False,
) -> tuple[Findings, list[str]]:
    """Checks all images and labels of a folder, or those of a datalist; see `main`. Returns also the class names."""
    if datalist:
        content = lists.read_datalist(datalist, dataset_dir)
    else:
        root = Path(dataset_dir)
        pairs = [{key: str(root / v) if key in PATHS else v for key, v in e.items()} for e in find_pairs(root)]
        labelled, others = [pair for pair in pairs if "label" in pair], [pair for pair in pairs if "label" not in pair]
        content = {"training": labelled, "test": others, "class_names": dataset_classes(root)}
    names = check_class_names(
        class_names or content.get("class_names") or read_json(CONFIGS / "train.json")["class_names"]
    )
    patients = {entry["image"]: entry["patient"] for split in lists.SPLITS for entry in content.get(split, [])}
    found = check_dataset({**content, "patients": patients}, names, output_dir, workers, fresh=fresh, pieces=pieces)
    return found, names


def main(
    dataset_dir: str,
    datalist: str | None = None,
    class_names: Sequence[str] | None = None,
    output_dir: str = "output",
    workers: int = 0,
    fresh: bool = False,
) -> None:
    """Checks all images and labels of a folder, or those of a datalist. The exit status is 1 if there are errors.

    Example: python -m scripts.check --dataset_dir DIR

    Args:
        dataset_dir: folder of the data set, in a layout that `scripts.data.layouts` knows.
        datalist: a JSON file whose splits and patients are checked; without one, cases with a label count as one split.
        class_names: names of the values 0, 1, ...; by default those of the datalist, of the folder or of train.json.
        output_dir: folder of `check.json`.
        workers: number of threads; 0 for one per core.
        fresh: read all files, even those that have not changed since an earlier check.
    """
    found, names = check_listed(dataset_dir, datalist, class_names, output_dir, int(workers), fresh)
    file = write_check(found, names, output_dir)
    print("\n".join(check_table(found, names)))
    print(f"written: {file}")
    if found.errors:
        raise SystemExit(1)
