"""The datalist: one JSON file that says which patient is in which split.

It is written once, split by patient; training, evaluation and inference read it.
"""

import difflib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.data.cases import Split
from scripts.data.decathlon import dataset_classes, dataset_description
from scripts.data.layouts import find_images, find_pairs
from scripts.data.names import case_name, scan_key
from scripts.data.pairing import index_by_key
from scripts.data.series_layouts import refuse_series
from scripts.data.slices import FolderNames, scan_exists
from scripts.data.splits import SPLITS, split_entries
from scripts.series.index import find_series, is_source, path_of

logger = logging.getLogger(__name__)

KEYS = ("image", "label", "patient", "week", "fold")
NAMED = "names each of its images"  # so there is nothing left to choose


def make_datalist(
    dataset_dir: str,
    class_names: Sequence[str] | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    folds: int = 0,
    seed: int = 0,
    by_slice: bool = False,
) -> dict:
    """Finds the pairs of a folder and splits them by patient: all scans of a patient are in the same split.

    If the folders already divide the data into training, validation and test, that split is kept.

    Args:
        dataset_dir: folder in a layout that `scripts.data.layouts` knows.
        class_names: names of the label values 0, 1, ...; compared with the folder's `dataset.json`, if there is one:
            other names are accepted, another number or order of them is not.
        validation: share of the patients, in [0, 1). It is not used with folds.
        test: share of the patients, in [0, 1).
        folds: 0 for one split, or 2 or more: every training entry gets the `fold` in which it is used for validation.
        seed: of the shuffle; the same patients and seed give the same split on every machine.
        by_slice: split slices, not patients, and say so in the description. This is a leak; it serves to measure how
            much a leak adds to the scores.

    Returns:
        The content of the datalist.
    """
    given = dataset_classes(dataset_dir)
    if class_names and given and len(given) != len(class_names):
        raise UserError(
            f"{Path(dataset_dir) / 'dataset.json'}: found {len(given)} classes, the configuration expects "
            f'{len(class_names)} ({", ".join(class_names)}); say --class_names "{given}"'
        )
    if class_names and given and given != list(class_names) and sorted(map(str, given)) == sorted(class_names):
        raise UserError(
            f"{Path(dataset_dir) / 'dataset.json'}: found the classes in the order {given}, the configuration expects "
            f'{list(class_names)}; say --class_names "{given}"'
        )
    entries = find_pairs(dataset_dir, by_slice)
    sides = split_entries(entries, float(validation), float(test), int(folds), seed, str(dataset_dir), by_slice)
    content: dict = {
        "description": dataset_description(dataset_dir) + (", split by slice, which leaks" if by_slice else ""),
        "dataset_dir": str(Path(dataset_dir).resolve()),
        "class_names": list(class_names) if class_names else given,
        "seed": seed,
        "folds": folds,
        **{split: [] for split in SPLITS},
    }
    for entry, (split, fold) in zip(entries, sides, strict=True):
        content[split].append(entry if fold is None else {**entry, "fold": fold})
    return content


def read_datalist(path: str | Path, base: str | Path | None = None) -> dict:
    """Reads a datalist and checks it: all files exist, no image is listed twice, no patient is in two splits.

    Args:
        path: the JSON file. An entry may lack `patient` and `fold`; the patient is then taken from the file name.
        base: folder that the paths in it are relative to; by default its `dataset_dir`, or else the list's folder.

    Returns:
        The content, with absolute paths and a patient in every entry.

    Raises:
        UserError: the first mistake in the list.
    """
    path = Path(path)
    content = read_json(path)
    refuse_misspelled_lists(content, path)
    root = Path(base or content.get("dataset_dir") or path.parent)
    advice = (
        "was the list made for another folder? Give that folder with --dataset_dir, or another list with --datalist"
        if base
        else 'name the folder of the images under "dataset_dir" in the list'
    )
    listed: dict[Path, str] = {}
    names = FolderNames()
    for split in SPLITS:
        entries = entries_of(content, split, path)
        content[split] = [complete_entry(entry, split, path, root, names, advice) for entry in entries]
        for entry in content[split]:
            image = Path(entry["image"])
            if image in listed:
                raise UserError(f"{path}: {image.name} is listed in {listed[image]} and again in {split}; list it once")
            listed[image] = split
    if not listed:
        raise UserError(f"{path}: no entries; expected lists under {', '.join(SPLITS)}")
    refuse_leaks(content, path)
    return content


def entries_of(content: dict, split: str, path: Path) -> list:
    """The entries of a split, as they are written in the file at `path`."""
    entries = content.get(split, [])
    if not isinstance(entries, list):
        raise UserError(f"{path}: {split} is a {type(entries).__name__}, expected a list of entries")
    return entries


def refuse_misspelled_lists(content: dict, path: Path) -> None:
    """Refuses entries under a name that is no split: nobody would read them."""
    for name, value in content.items():
        entries = isinstance(value, list) and any(isinstance(one, dict) and "image" in one for one in value)
        if name not in SPLITS and (entries or near(name, SPLITS)):
            raise UserError(f"{path}: found {name!r}, expected {', '.join(SPLITS)}; rename it")


def near(name: str, known: Collection[str]) -> str | None:
    """The known name that another one was probably meant to be."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.81)), None)


def complete_entry(entry: dict | str, split: str, path: Path, root: Path, names: FolderNames, advice: str) -> dict:
    """Returns an entry with absolute paths and a patient. A test entry may be a plain path, or have no label."""
    if not isinstance(entry, str | dict):
        raise UserError(f"{path}: found {entry!r} under {split}, expected an object with image and label paths")
    entry = {"image": entry} if isinstance(entry, str) else {k: v for k, v in entry.items() if v not in (None, "")}
    for key in entry.keys() - set(KEYS):
        if (meant := near(key, KEYS)) and meant not in entry:
            raise UserError(f"{path}: found {key!r} in an entry under {split}, expected {meant!r}: {entry}; rename it")
    if not isinstance(entry.get("fold", 0), int):
        raise UserError(f"{path}: the fold of an entry is {entry['fold']!r}, expected a whole number: {entry}")
    needed = ("image",) if split == "test" else ("image", "label")
    for key in needed:
        if not isinstance(entry.get(key), str):
            raise UserError(f"{path}: an entry under {split} has no {key}: {entry}; expected image and label paths")
    for key in ("image", "label"):
        if key in entry:
            file = (root / entry[key]).absolute()
            if key == "image" and file.is_dir() and is_source(file):
                file = Path(path_of(file, find_series(file)))  # a folder of one series
            if not scan_exists(file, names):
                raise UserError(f"{file}: listed in {path} under {split}, but no such file; {advice}")
            entry[key] = str(file)
    entry.setdefault("patient", scan_key(entry["image"])[0])
    return entry


def refuse_leaks(content: dict, path: Path) -> None:
    """Refuses a patient who is in two splits, see `leak_fault`."""
    fault = leak_fault(content, path)
    if fault:
        raise UserError(fault)


def leak_fault(content: dict, path: str | Path) -> str | None:
    """Says which patient is in two splits: scans of one patient are much alike, so the scores would be too high.

    Args:
        content: lists of entries with `image` and `patient`, by split.
        path: of the datalist, for the message.
    """
    side_of: dict[str, tuple] = {}
    for split in SPLITS:
        for entry in content[split]:
            side = (split, entry.get("fold"))
            known_side, known_image = side_of.setdefault(str(entry["patient"]), (side, entry["image"]))
            if known_side != side:
                named = [s if f is None else f"{s} fold {f}" for s, f in (known_side, side)]
                return (
                    f"{path}: patient {entry['patient']} is in {named[0]} ({Path(known_image).name}) and in {named[1]} "
                    f"({Path(entry['image']).name}); put all scans of a patient into one split"
                )
    return None


def write_datalist(content: dict, path: str | Path) -> None:
    """Writes a datalist."""
    write_json(content, Path(path))


def prepare_datalist(
    datalist: str,
    dataset_dir: str,
    class_names: Sequence[str],
    create: bool = True,
    fold: int | None = None,
    **options,
) -> dict:
    """Returns the lists that a run works on, from the file `datalist`. If the file does not exist, it is made first.

    Args:
        datalist: path of the JSON file.
        dataset_dir: folder of the images; the paths in the list are relative to it.
        class_names: names in the configuration; a list that was made for other names is refused.
        create: False if the list must exist already, because an earlier run has used it.
        fold: for a list of folds, the one used for validation; the others are used for training.
        options: `validation`, `test`, `folds`, `seed` and `by_slice` of `make_datalist`.

    Returns:
        `training`, `validation` and `test`, lists of {"image", "label"}; `patients`, by image; `description`; the path
        of the file as `datalist`.
    """
    if not Path(datalist).is_file():
        if not create:
            raise UserError(
                f"{datalist}: no such datalist; expected the one that training wrote to its output_dir. "
                "Give that folder with --output_dir, or the list with --datalist"
            )
        write_datalist(make_datalist(dataset_dir, class_names, **options), datalist)
        logger.info(f"datalist: written to {datalist}")
    content = read_datalist(datalist, dataset_dir)
    made_for = content.get("class_names")
    if made_for and list(made_for) != list(class_names):
        raise UserError(
            f"{datalist}: made for the classes {made_for}, but the run expects {list(class_names)}; make a new list"
        )
    choose_fold(content, fold, datalist)
    logger.info("datalist: " + ", ".join(f"{len(content[split])} {split}" for split in SPLITS) + f" cases, {datalist}")
    keys = ("image", "label")
    data: dict[str, Any] = {
        "patients": {e["image"]: str(e["patient"]) for split in SPLITS for e in content[split]},
        "description": content.get("description") or Path(datalist).name,
        "datalist": str(datalist),
    }
    for split in SPLITS:
        data[split] = Split([{k: e[k] for k in keys if k in e} for e in content[split]], data)
    return data


def choose_fold(content: dict, fold: int | None, path: str) -> None:
    """Moves the entries of the chosen fold from training to validation."""
    folds = sorted({entry["fold"] for entry in content["training"] if "fold" in entry})
    if not folds and fold is None:
        return
    if not folds:
        raise UserError(
            f"{path}: fold is {fold}, but this list was made without folds; expected one with folds, give another "
            "--output_dir or --datalist, or leave --fold out (if a recipe sets it, say --fold '$None')"
        )
    if fold not in folds:
        raise UserError(f"{path}: fold is {fold}; expected one of {folds} (--fold N)")
    content["validation"] += [entry for entry in content["training"] if entry.get("fold") == fold]
    content["training"] = [entry for entry in content["training"] if entry.get("fold") != fold]


def is_datalist(source: str | Path) -> bool:
    """Whether a source of images is a file that lists them."""
    return Path(source).suffix.lower() == ".json" and Path(source).is_file()


def list_images(source: str, split: str = "test", series: str | int | None = None) -> list[dict]:
    """Returns what inference reads, as a list of {"image"}.

    Args:
        source: a file, a folder of images, a DICOM source, or a datalist.
        split: of a datalist.
        series: of a DICOM source; None for every MR series that fits, see `scripts.series.index.choose`.
    """
    if is_datalist(source):
        refuse_series(series, source, NAMED)
        entries = read_datalist(source)[split] if split in SPLITS else None
        if not entries:
            raise UserError(f"{source}: no entry under {split!r}; expected one of {', '.join(SPLITS)} (--split NAME)")
        index_by_key((Path(entry["image"]) for entry in entries), case_name)
        return [{"image": entry["image"]} for entry in entries]
    return [{"image": str(path)} for path in find_images(source, series)]
