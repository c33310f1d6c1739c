"""Checks a data set before anything is made of it: every file whole, every pair on one grid, nothing listed twice.

python -m scripts.check --dataset_dir DIR [--datalist FILE] [--class_names LIST] [--output_dir DIR] [--workers N]
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.check.cache import MEMORY, facts_of, verdict
from scripts.check.nifti import RULES, shown
from scripts.check.rules import Case, case_faults, copies, oddities
from scripts.check.table import table
from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.core.paths import CONFIGS
from scripts.data import datalist as lists
from scripts.data.layouts import dataset_classes, find_pairs, scan_key
from scripts.data.slices import refuse_unread
from scripts.run.knobs import check_class_names

logger = logging.getLogger(__name__)

REPORT = "check.json"
PATHS = ("image", "label")


@dataclass
class Findings:
    """What a check has found.

    Attributes:
        errors: one line each; with these the data must not be used.
        warnings: one line each; what a person should look at.
        files: facts on every file by path (`scripts.check.nifti.inspect`), or {"error": line}.
        cases: what was checked, in order.
        read: number of files that were read; the others were remembered.
    """

    errors: list[str]
    warnings: list[str]
    files: dict[str, dict]
    cases: list[Case]
    read: int


def check(
    cases: dict,
    class_names: Sequence[str],
    output_dir: str | Path | None = None,
    workers: int = 0,
    *,
    splits: Sequence[str] = lists.SPLITS,
    labelled: Sequence[str] = ("training", "validation"),
    fresh: bool = False,
    channels: int | None = None,
) -> Findings:
    """Checks lists of cases, each file once; a file that hasn't changed since an earlier check isn't read again.

    Args:
        cases: of `scripts.data.datalist.prepare`: lists of {"image", "label"} by split, and `patients` by image.
        class_names: names of the values 0, 1, ..., background first.
        output_dir: folder that remembers; None reads everything and leaves nothing behind.
        workers: threads; 0 for one a core.
        splits: those to check.
        labelled: those whose cases can't do without a label; elsewhere its absence is a warning.
        fresh: reads everything again.
        channels: that every image must have; None where any number will do.
    """
    patients = cases.get("patients", {})
    listed = [
        Case(
            split,
            str(patients.get(entry["image"], scan_key(entry["image"])[0])),
            str(Path(entry["image"]).absolute()),
            str(Path(entry["label"]).absolute()) if entry.get("label") else None,
        )
        for split in splits
        for entry in cases.get(split, [])
    ]
    paths = [path for case in listed for path in (case.image, case.label) if path]
    files, read = facts_of(paths, Path(output_dir) / MEMORY if output_dir else None, workers, fresh)
    errors, warnings, sound = leaks(listed), [], []
    unscored: dict = {}
    for case in listed:
        found = case_faults(case.image, case.label, files, class_names, channels)
        errors += found
        sound += [] if found else [case]  # what is broken is not worth a second line
        if not case.label and case.split in labelled:
            line = f"{shown(case.image)}: no label for it under {case.split}"
            errors.append(f"{line}; expected one, add it or take the case off the list")
        elif not case.label:
            unscored.setdefault(case.split, []).append(case.image)
    for split, images in unscored.items():
        more = f" (and {len(images) - 1} more)" if len(images) > 1 else ""
        warnings.append(f"{shown(images[0])}{more}: no label for it under {split}, so it can't be scored")
    copied, doubtful = copies(sound, files)
    warnings += doubtful + oddities(sound, files, class_names)
    return Findings(list(dict.fromkeys(errors + copied)), warnings, files, listed, read)


def faults(
    path: str | Path,
    label_path: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    channels: int | None = None,
    kept: dict | None = None,
) -> list[str]:
    """Why a single case can't be used, one line each; empty where it can.

    Args:
        path: the image.
        label_path: its label map, if there is one.
        class_names: names of the values 0, 1, ...
        channels: that the image must have.
        kept: takes what was read as nibabel images, by path.
    """
    image, label = str(path), str(label_path) if label_path else None
    files = {file: verdict(file, kept) for file in (image, label) if file}
    return case_faults(image, label, files, class_names, channels)


def stop_on_errors(
    data: dict,
    class_names: Sequence[str],
    output_dir: str,
    splits: Sequence[str] = lists.SPLITS,
    workers: int = 0,
    labelled: Sequence[str] | None = None,
    main_process: bool = True,
    channels: int | None = None,
    reader: str | None = None,
) -> None:
    """The check as a step of a run: every finding goes to the log, and an error ends the run before it has begun.

    Args:
        data: what `scripts.data.datalist.prepare` returns.
        class_names: names of the values 0, 1, ...
        output_dir: folder of `check.json` and of what is remembered.
        splits: those to check.
        workers: threads; 0 for one a core.
        labelled: splits that can't do without labels; by default training and validation.
        main_process: False in all but one process of a distributed run; those check nothing.
        channels: that every image must have.
        reader: of the configuration, None where that is for volumes only.

    Raises:
        UserError: the first error, and how many more there are.
    """
    if not main_process:
        return
    for case in (case for split in splits for case in data.get(split, [])):
        refuse_unread(case["image"], reader)
    began = time.perf_counter()
    options: dict = {} if labelled is None else {"labelled": labelled}
    found = check(data, class_names, output_dir, workers, splits=splits, channels=channels, **options)
    file = write(found, class_names, output_dir)
    for kind, texts in (("warning", found.warnings), ("error", found.errors)):
        for text in texts:
            logger.log(logging.ERROR if kind == "error" else logging.WARNING, f"data check: {kind}: {text}")
    logger.info(
        f"data check: {len(found.files)} files in {time.perf_counter() - began:.1f} s ({found.read} read, the others "
        f"are as they were), {len(found.errors)} errors, {len(found.warnings)} warnings, {file}"
    )
    if found.errors:
        more = len(found.errors) - 1
        raise UserError(found.errors[0] + (f" (and {more} more, see the log or {file})" if more else ""))


def leaks(cases: Sequence[Case]) -> list[str]:
    """What a datalist is held to when it is read, for lists that come another way."""
    first = {case.image: case for case in reversed(cases)}.values()  # an image listed twice is refused as such
    content = {split: [case._asdict() for case in first if case.split == split] for split in lists.SPLITS}
    try:
        lists.refuse_leaks(content, Path("the lists"))
    except UserError as error:
        return [str(error)]
    return []


def write(found: Findings, class_names: Sequence[str], output_dir: str | Path) -> Path:
    """Leaves `check.json`, for programs and for the record."""
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


def main(
    dataset_dir: str,
    datalist: str | None = None,
    class_names: Sequence[str] | None = None,
    output_dir: str = "output",
    workers: int = 0,
    fresh: bool = False,
) -> None:
    """Checks all images and labels of DATASET_DIR, or those of a datalist; exit status 1 where there are errors.

    Args:
        dataset_dir: folder in a layout that `scripts.data.layouts` knows.
        datalist: its lists and patients; without one all cases count as one split.
        class_names: names of the values 0, 1, ...; by default those of the list, of the folder or of train.json.
        output_dir: folder of `check.json`.
        workers: threads; 0 for one a core.
        fresh: reads files again that haven't changed since they were checked.
    """
    if datalist:
        content = lists.read(datalist, dataset_dir)
    else:
        root = Path(dataset_dir)
        pairs = [{key: str(root / v) if key in PATHS else v for key, v in e.items()} for e in find_pairs(root)]
        content = {"training": pairs, "class_names": dataset_classes(root)}
    names = check_class_names(
        class_names or content.get("class_names") or read_json(CONFIGS / "train.json")["class_names"]
    )
    patients = {entry["image"]: entry["patient"] for split in lists.SPLITS for entry in content.get(split, [])}
    found = check({**content, "patients": patients}, names, output_dir, int(workers), fresh=fresh)
    file = write(found, names, output_dir)
    print("\n".join(table(found, names)))
    print(f"written: {file}")
    if found.errors:
        raise SystemExit(1)
