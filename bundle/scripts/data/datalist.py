"""Who is in which split: one JSON file, made once, by patient, and read by everything after it."""

import logging
from collections.abc import Sequence
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.data.layouts import (
    case_name,
    dataset_classes,
    dataset_description,
    find_images,
    find_pairs,
    index_by_key,
    scan_key,
)
from scripts.data.slices import scan_exists
from scripts.data.splits import SPLITS, split_entries

logger = logging.getLogger(__name__)


def make_datalist(
    dataset_dir: str,
    class_names: Sequence[str] | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    folds: int = 0,
    seed: int = 0,
    by_slice: bool = False,
) -> dict:
    """Pairs of a folder, split by patient: two scans of one patient are never on two sides.

    Where folders divide the data into training, validation and test, that split is kept.

    Args:
        dataset_dir: folder in a layout that `scripts.data.layouts` knows.
        class_names: names of the label values 0, 1, ...; compared with what the folder says of itself.
        validation: share of the patients, in [0, 1); with folds it follows from their number.
        test: share of the patients, in [0, 1).
        folds: 0, or 2 and more: every training entry is given the `fold` in which it validates.
        seed: of the shuffle; the same patients and seed give the same split on every machine.
        by_slice: splits slices, not patients, and says so in the description: a leak, to show what it adds.
    """
    given = dataset_classes(dataset_dir)
    if class_names and given and len(given) != len(class_names):
        raise UserError(
            f"{Path(dataset_dir) / 'dataset.json'}: {len(given)} classes, the configuration names "
            f'{len(class_names)} ({", ".join(class_names)}); say --class_names "{given}"'
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
    """A datalist with absolute paths, checked: files there, no patient on two sides.

    Args:
        path: the JSON file. `patient` and `fold` of an entry may be left out; a patient is then read off the name.
        base: folder that the paths in it are relative to; by default its own `dataset_dir`, else the list's folder.
    """
    path = Path(path)
    content = read_json(path)
    root = Path(base or content.get("dataset_dir") or path.parent)
    listed: dict[Path, str] = {}
    for split in SPLITS:
        entries = content.get(split, [])
        if not isinstance(entries, list):
            raise UserError(f"{path}: {split} is a {type(entries).__name__}, expected a list of entries")
        content[split] = [complete_entry(entry, split, path, root) for entry in entries]
        for entry in content[split]:
            image = Path(entry["image"])
            if image in listed:
                raise UserError(f"{path}: {image.name} stands in {listed[image]} and again in {split}; list it once")
            listed[image] = split
    if not listed:
        raise UserError(f"{path}: no entries; expected lists under {', '.join(SPLITS)}")
    refuse_leaks(content, path)
    return content


def complete_entry(entry: dict | str, split: str, path: Path, root: Path) -> dict:
    """An entry with absolute paths and a patient; a test entry may be a bare path or lack its label."""
    if not isinstance(entry, str | dict):
        raise UserError(f"{path}: found {entry!r} under {split}, expected an object with image and label paths")
    entry = {"image": entry} if isinstance(entry, str) else dict(entry)
    needed = ("image",) if split == "test" else ("image", "label")
    for key in needed:
        if not isinstance(entry.get(key), str):
            raise UserError(f"{path}: an entry under {split} has no {key}: {entry}; expected image and label paths")
    for key in ("image", "label"):
        if key in entry:
            file = (root / entry[key]).absolute()
            if not scan_exists(file):
                raise UserError(
                    f"{file}: listed in {path} under {split} but not there; was the list made for another folder? "
                    "Name that one with --dataset_dir, or another list with --datalist"
                )
            entry[key] = str(file)
    entry.setdefault("patient", scan_key(entry["image"])[0])
    return entry


def refuse_leaks(content: dict, path: Path) -> None:
    """Scans of one patient are near copies: on two sides they make a score too good to be true."""
    side_of: dict[str, tuple] = {}
    for split in SPLITS:
        for entry in content[split]:
            side = (split, entry.get("fold"))
            known_side, known_image = side_of.setdefault(str(entry["patient"]), (side, entry["image"]))
            if known_side != side:
                named = [s if f is None else f"{s} fold {f}" for s, f in (known_side, side)]
                raise UserError(
                    f"{path}: patient {entry['patient']} is in {named[0]} ({Path(known_image).name}) and in {named[1]} "
                    f"({Path(entry['image']).name}); put all scans of a patient on one side"
                )


def write_datalist(content: dict, path: str | Path) -> None:
    write_json(content, Path(path))


def prepare_datalist(
    datalist: str,
    dataset_dir: str,
    class_names: Sequence[str],
    create: bool = True,
    fold: int | None = None,
    **options,
) -> dict:
    """The lists a run works on: read from `datalist`, which is made first where it is not there.

    Args:
        datalist: path of the JSON file.
        dataset_dir: folder of the images; relative paths of the list start there.
        class_names: as the configuration has them; a list made under other names is refused.
        create: False where a list must exist, because a run before this one has used it.
        fold: with a list of folds, the one that validates; the others train.
        options: `validation`, `test`, `folds`, `seed` and `by_slice` of `make`.

    Returns:
        `training`, `validation` and `test`, lists of {"image", "label"}; `patients`, by image; `description`.
    """
    if not Path(datalist).is_file():
        if not create:
            raise UserError(
                f"{datalist}: no datalist there; expected the one that training left in its output_dir. "
                "Name the folder with --output_dir or the list with --datalist"
            )
        write_datalist(make_datalist(dataset_dir, class_names, **options), datalist)
        logger.info(f"datalist: written to {datalist}")
    content = read_datalist(datalist, dataset_dir)
    made_for = content.get("class_names")
    if made_for and list(made_for) != list(class_names):
        raise UserError(f"{datalist}: made for the classes {made_for}, the run names {list(class_names)}; make it anew")
    choose_fold(content, fold, datalist)
    logger.info("datalist: " + ", ".join(f"{len(content[split])} {split}" for split in SPLITS) + f" cases, {datalist}")
    keys = ("image", "label")
    lists = {split: [{k: e[k] for k in keys if k in e} for e in content[split]] for split in SPLITS}
    patients = {e["image"]: str(e["patient"]) for split in SPLITS for e in content[split]}
    return {**lists, "patients": patients, "description": content.get("description") or Path(datalist).name}


def choose_fold(content: dict, fold: int | None, path: str) -> None:
    """Moves the chosen fold of a list of folds from training to validation."""
    folds = sorted({entry["fold"] for entry in content["training"] if "fold" in entry})
    if not folds and fold is None:
        return
    if fold not in folds:
        raise UserError(f"{path}: fold is {fold}; expected one of {folds or 'none, the list has no folds'} (--fold N)")
    content["validation"] += [entry for entry in content["training"] if entry.get("fold") == fold]
    content["training"] = [entry for entry in content["training"] if entry.get("fold") != fold]


def images_with_truth(data: dict, split: str) -> list[dict]:
    """What an evaluation scores: the cases of a split that have a label, as a list of {"image", "truth"}."""
    if split not in SPLITS:
        raise UserError(f"split is {split!r}: expected one of {', '.join(SPLITS)} (--split NAME)")
    found = [{"image": case["image"], "truth": case["label"]} for case in data[split] if "label" in case]
    if not found:
        others = [name for name in SPLITS if any("label" in case for case in data[name])]
        raise UserError(
            f"nothing under {split} has a label to be scored against; expected some, or say --split {others[-1]}"
            if others
            else "no case has a label to be scored against; expected some in the datalist"
        )
    if len(found) < len(data[split]):
        logger.warning(
            f"{len(data[split]) - len(found)} of {len(data[split])} {split} cases have no label to be scored against"
        )
    return found


def list_images(source: str, split: str = "test") -> list[dict]:
    """What inference reads: a file, a folder, or one split of a datalist, as a list of {"image"}."""
    if Path(source).suffix.lower() == ".json" and Path(source).is_file():
        entries = read_datalist(source)[split] if split in SPLITS else None
        if not entries:
            raise UserError(f"{source}: nothing under {split!r}; expected one of {', '.join(SPLITS)} (--split NAME)")
        index_by_key((Path(entry["image"]) for entry in entries), case_name)
        return [{"image": entry["image"]} for entry in entries]
    return [{"image": str(path)} for path in find_images(source)]


def main(
    dataset_dir: str,
    output: str,
    folds: int = 0,
    seed: int = 0,
    validation: float = 0.15,
    test: float = 0.15,
    class_names: Sequence[str] | None = None,
) -> None:
    """Finds the pairs of DATASET_DIR, splits them by patient and writes the datalist OUTPUT (see `make`)."""
    content = make_datalist(dataset_dir, class_names, validation, test, folds, seed)
    write_datalist(content, output)
    for split in SPLITS:
        patients = {entry["patient"] for entry in content[split]}
        print(f"{split:<10} {len(patients):>4} patients {len(content[split]):>5} scans")
    print(f"written: {output}")
