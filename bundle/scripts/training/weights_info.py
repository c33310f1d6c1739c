"""`model.json`: what is known of the weights in `model.pt`, beside it, since that file holds weights and nothing else.

It names the files of weights with their sha256, the classes, the training data, the epoch and its score. It is needed
for checks and messages only; weights without it can be used. While new weights are written, it describes the old ones
as well (under `replaced`), so that after a kill at any instant the file of weights agrees with one of the two.
"""

import logging
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.files import read_json, replace_file, unused_name, write_json
from scripts.training.checkpoint_files import clean_up_after_kill, old_digest, serialised, sha256, write_bytes

logger = logging.getLogger(__name__)

NETWORKS, REPLACED = "networks", "replaced"  # keys of the JSON file


def info_file(file: Path) -> Path:
    """`model.json` for `model.pt`."""
    return file.with_suffix(".json")


def is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_size(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def is_ranges(value: object) -> bool:
    """Whether a value is what `scripts.data.plausibility.training_ranges` makes and `find_doubts` reads."""
    return isinstance(value, dict) and all(
        isinstance(spans, dict)
        and isinstance(spans.get("ml"), list)
        and len(spans["ml"]) == 2
        and all(map(is_number, [*spans["ml"], spans.get("pieces"), spans.get("border")]))
        for spans in value.values()
    )


def is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def is_entry(value: object) -> bool:
    """One file of weights: its name, without any folder, and its sha256."""
    if not (isinstance(value, dict) and isinstance(value.get("file"), str) and is_sha256(value.get("sha256"))):
        return False
    name = value["file"]
    return bool(name) and not set(name) & set("/\\:") and name not in (".", "..")


EXPECTED = {  # key: (whether a value is of the right kind, the right kind in words)
    NETWORKS: (
        lambda value: isinstance(value, list) and bool(value) and all(map(is_entry, value)),
        'a list of {"file": a name without a folder, "sha256": 64 hexadecimal digits}',
    ),
    "class_names": (is_text_list, "a list of names"),
    "trained_on": (lambda value: isinstance(value, str), "a text"),
    "spatial_size": (is_size, "a list of whole numbers"),
    "ranges": (lambda value: value is None or is_ranges(value), "the numbers of each class"),
    "epoch": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "score": (is_number, "a number"),
}


def refuse_wrong_types(info: dict, file: Path, needed: tuple[str, ...] = ()) -> None:
    """Refuses what is known of weights where it is of another type than the bundle writes.

    Raises:
        UserError: names the file, the key, what was found and what was expected.
    """
    for key, (fits, expected) in EXPECTED.items():
        if (key in info or key in needed) and not fits(info.get(key)):
            found = repr(info.get(key))[:80] if key in info else "nothing"
            advice = "delete this file to use the weights without it" if file.suffix == ".json" else "train it again"
            raise UserError(f"{file}: {key} is {found}, expected {expected}; {advice}")


def read_info(file: Path) -> list[dict]:
    """The descriptions in a `model.json`: that of the weights and, while these are being replaced, of those before.

    Returns:
        None of them where there is no such file.

    Raises:
        UserError: the file is no JSON, or a value in it is of another type than expected.
    """
    try:
        content = read_json(file)
    except FileNotFoundError:
        return []
    except RecursionError as error:
        raise UserError(f"{file}: nested too deeply for a description of weights; delete this file") from error
    found = [content]
    if REPLACED in content:
        found.append(content.pop(REPLACED))
    for info in found:
        if not isinstance(info, dict):
            raise UserError(f"{file}: {REPLACED} is a {type(info).__name__}, expected an object; delete this file")
        refuse_wrong_types(info, file, (NETWORKS,))
    return found


def descriptions_of(file: Path) -> list[dict]:
    """The descriptions beside a file of weights that speak of a file of its name."""
    found = read_info(info_file(file))
    return [info for info in found if any(entry["file"] == file.name for entry in info[NETWORKS])]


def matching(descriptions: list[dict], file: Path, digest: str) -> dict | None:
    """The description, of several, of a file of this name with this sha256."""
    entry = {"file": file.name, "sha256": digest}
    return next((info for info in descriptions if entry in info[NETWORKS]), None)


def write_weights(weights: dict, info: dict, file: Path) -> None:
    """Writes the weights of one network as a plain state dict, and `model.json` beside it.

    Args:
        weights: the network's state dict.
        info: what is known of it: `class_names`, `trained_on`, `spatial_size`, `ranges`, `epoch`, `score`.
        file: of the weights.
    """
    data = serialised(weights)
    now = {NETWORKS: [{"file": file.name, "sha256": sha256(data)}], **info}
    before = present(file)
    write_json({**now, REPLACED: before} if before else now, info_file(file))
    write_bytes(data, file)
    if before:
        write_json(now, info_file(file))


def present(file: Path) -> dict | None:
    """The description of the weights that are in a file now; None where there is no file."""
    if not file.is_file():
        return None
    digest = sha256(file.read_bytes())
    try:
        known = matching(read_info(info_file(file)), file, digest)
    except UserError:  # whatever is wrong with it, it is about to be replaced
        known = None
    return known or {NETWORKS: [{"file": file.name, "sha256": digest}]}


def write_ensemble(networks: list[dict], info: dict, file: Path) -> None:
    """Writes the weights of several networks as `NAME_1.pt`, `NAME_2.pt`, ... and the `NAME.json` that lists them.

    Args:
        networks: the state dict of each.
        info: as for `write_weights`.
        file: the JSON file.
    """
    entries = []
    for number, weights in enumerate(networks, start=1):
        data, name = serialised(weights), f"{file.stem}_{number}.pt"
        write_bytes(data, file.with_name(name))
        entries.append({"file": name, "sha256": sha256(data)})
    write_json({NETWORKS: entries, **info}, file)


def rename_previous_weights(file: Path) -> None:
    """Renames the weights of an earlier run and their description: `model.pt` to `model.1.pt`, and so on."""
    for name in (file, info_file(file)):
        clean_up_after_kill(name)
    if file.exists():
        kept = unused_name(file)
        known = present(file) or {}
        entry = {"file": kept.name, "sha256": sha256(file.read_bytes())}
        write_json({**known, NETWORKS: [entry]}, info_file(kept))
        replace_file(file, kept)
        doubt = file.with_name(f"{file.stem}_doubt.json")  # what was learned of these weights
        if doubt.is_file():
            replace_file(doubt, kept.with_name(f"{kept.stem}_doubt.json"))
        logger.info(f"{file} of an earlier run is kept as {kept.name}")
    for name in (info_file(file), old_digest(file)):
        name.unlink(missing_ok=True)
