"""Which ids of a configuration its runs read: what MONAI would resolve, found without building anything."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from scripts.core.errors import UserError
from scripts.core.paths import CONFIGS

PATCHES = ("evaluate.json", "calibrate.json")  # of an evaluation, and of the last step of a training


def unread(names: Sequence[str], files: Sequence[str], runs: Iterable[str], values: Sequence[Any] = ()) -> list[str]:
    """Those of some ids that no run of the given files reads.

    Args:
        names: ids, nested ones as `a::b`.
        files: configuration files, one patch after the other.
        runs: ids of the runs; one that the files don't have is passed over.
        values: values that the ids get, which may refer to others: `%configs/networks.json::unet_32`.

    Raises:
        UserError: a value names an entry that is not there.
    """
    contents = {file: ConfigParser.load_config_file(file) for file in files if Path(file).name not in PATCHES}
    there = {name.lstrip("+") for content in contents.values() for name in content if "::" not in name}
    # not those that patch what only an evaluation has
    own = [file for file in contents if all(name.lstrip("+").split("::")[0] in there for name in contents[file])]
    after_training = [*own, *(str(CONFIGS / name) for name in PATCHES)] if "calibration" in there else []
    left = not_among(names, follow(files, runs, values))
    if left and len(own) < len(files):  # an evaluation may be given what its training was
        left = not_among(left, follow(own, runs, values))
    if left and after_training:
        read = follow(after_training, ["calibrating"], values)
        left = not_among(left, {name for name in read if name.split("::")[0] in there})
    return left


def follow(files: Sequence[str], starts: Iterable[str], values: Sequence[Any]) -> set[str]:
    """The ids that `@` and `%` reach from some others, from given values, and from what begins and ends a run."""
    parser = ConfigParser()
    parser.read_config(list(files))
    parser["given_values"] = list(values)
    try:
        parser.resolve_macro_and_relative_ids()
    except (KeyError, OSError) as error:
        names = [value for value in values if str(value).startswith("%")]
        raise UserError(
            f"{', '.join(names) or ', '.join(files)}: found no such entry ({error.args[-1]}); correct its name"
        ) from error
    found: set[str] = set()
    ahead = ["given_values", "imports", "initialize", "finalize", *starts]
    while ahead:
        name = ahead.pop()
        if name not in found and name in parser:
            found.add(name)
            ahead += ReferenceResolver.find_refs_in_config(parser[name], name)
    return found


def not_among(names: Sequence[str], read: Iterable[str]) -> list[str]:
    """The ids that are not read, nor a part of them, nor what they are a part of."""
    return [name for name in names if not any(is_part(name, one) or is_part(one, name) for one in read)]


def is_part(inner: str, outer: str) -> bool:
    """Whether an id is another one or below it."""
    return f"{inner}::".startswith(f"{outer}::")
