"""The command line of a run: misspelled ids are rejected with a suggestion, and errors are printed in a few lines.

Every configuration that can be run uses it; `scripts.study` checks its ids with it.
"""

import difflib
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser

from scripts.core.errors import UserError
from scripts.core.paths import CONFIGS
from scripts.run.configuration import refuse_wrong_order
from scripts.run.crash import report_crash
from scripts.run.reading import unread
from scripts.run.words import (
    args_file,
    arguments_of_run,
    files_of,
    given_values,
    ids_of,
    is_bundle_command,
    literal,
    run_of,
    value_of,
)

LABELLING_TASK = ["-m", "train"]  # how MONAI Label starts a process for a training; it shows the last lines
RUNS = {"training": "train.json", "evaluating": "evaluate.json", "inference": "inference.json"}  # and where they are
# These hold no ids of a run.
NO_PATCHES = ("metadata.json", "knobs.schema.json", "networks.json", "losses.json", "segments.json")


def check_command_line(debug: bool = False) -> None:
    """Rejects unknown ids of the command line. After this call, an error that ends the run is printed in a few lines.

    Nothing of this happens in a program that uses the bundle from Python: its command line is its own.

    Args:
        debug: whether an error prints its complete traceback. The log file, once it is open, has it in any case.
    """
    if is_bundle_command() or sys.argv[1:3] == LABELLING_TASK:
        sys.excepthook = partial(report_crash, debug=debug is True)
    if is_bundle_command():
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")  # MONAI's, in every run beside pydicom
        refuse_unknown_ids(sys.argv[1:])
        refuse_wrong_order(files_of(sys.argv[1:]))
        refuse_unknown_run(sys.argv[1:])
        of_file = args_file(sys.argv[1:])
        ids = sorted(ids_of(sys.argv[1:]), key=lambda name: name not in of_file)  # MONAI sets those of the file first
        refuse_lost_parts({name: value_of(sys.argv[1:], name) for name in ids})
        refuse_unused_ids(sys.argv[1:])
        refuse_lost_none(sys.argv[1:])


def contents_of(files: Sequence[str]) -> list[dict]:
    """What configuration files hold. A file that is not there is MONAI's to complain of."""
    return [ConfigParser.load_config_file(file) for file in files if Path(file).is_file()]


def ids_in(contents: Sequence[dict]) -> set[str]:
    """The ids at the top of configurations."""
    return {key.lstrip("+") for content in contents for key in content}


def is_referred_to(name: str, text: str) -> bool:
    """Whether a configuration, as text, refers to an id."""
    return bool(re.search(rf"[@%]{re.escape(name)}(?!\w)", text))


def refuse_unknown_ids(arguments: Sequence[str]) -> None:
    """Rejects an override that neither a shipped nor a given configuration defines. MONAI itself would ignore it.

    Args:
        arguments: a command line without the program; it is checked only if it is one of `monai.bundle run`.

    Raises:
        UserError: the first unknown id, with the nearest known one.
    """
    if "run" not in arguments[:1]:
        return
    shipped, components = known_ids()
    known = shipped | ids_in(contents_of(files_of(arguments)))
    for name in ids_of(arguments):
        plain = name.lstrip("+").replace("#", "::")
        if plain in known or is_argument(plain, components):
            continue
        nearest = difflib.get_close_matches(plain, [*known, *arguments_of_run()], n=1, cutoff=0)[0]
        raise UserError(f"--{name}: no configuration of this bundle knows this id; did you mean --{nearest}?")


def refuse_unknown_run(arguments: Sequence[str]) -> None:
    """Rejects a run that none of the given files has, and an id that is no run.

    MONAI itself would end in a traceback, or build the thing and end without a word.

    Args:
        arguments: a command line without the program.

    Raises:
        UserError: the name of the run, with those that the files have.
    """
    run, files = run_of(arguments), files_of(arguments)
    there = ids_in(contents_of(files))
    known, _ = known_ids()
    if run not in there or (run in known and run not in (*RUNS, "run")):
        found = " or ".join(name for name in RUNS if name in there)
        raise UserError(
            f"run {run}: found no such run in {', '.join(files)}, expected {found}"
            + (f"; {run} is in configs/{RUNS[run]}" if run in RUNS else "")
        )


def refuse_unused_ids(arguments: Sequence[str]) -> None:
    """Rejects an override that changes nothing: the given files don't have it, or no run of them reads it.

    MONAI itself would ignore it without a word.

    Args:
        arguments: a command line without the program.

    Raises:
        UserError: the first such id; of one that the files don't have, with shipped files that have it.
    """
    names = ids_of(arguments)
    values = [literal(value) for name in names for value in given_values(arguments, name)]
    values += args_file(arguments).values()
    refuse_unread_ids([f"--{name}" for name in names], files_of(arguments), values, run_of(arguments))


def refuse_unread_ids(names: Sequence[str], files: Sequence[str], values: Sequence[Any] = (), run: str = "run") -> None:
    """Rejects an id that no run of the given files reads.

    Args:
        names: ids, as the user has written them.
        files: configuration files, one patch after the other.
        values: values that the ids get; they may refer to others.
        run: a run beside the usual ones.
    """
    if not names or not all(Path(file).is_file() for file in files):  # a missing one is MONAI's to complain of
        return
    plain = {name.split()[-1].lstrip("-+").replace("#", "::"): name for name in names}
    left = unread(list(plain), files, [*RUNS, run], values)
    if not left:
        return
    name, top, given = plain[left[0]], left[0].split("::")[0], ", ".join(files)
    if top in ids_in(contents_of(files)):
        raise UserError(f"{name}: nothing that runs with {given} reads it, so it changes nothing; leave it out")
    others = [file.name for file in configurations() if top in json.loads(file.read_text(encoding="utf-8"))]
    raise UserError(
        f"{name}: nothing in {given} uses it; leave it out, or add to --config_file a file that "
        f"has it ({', '.join(f'configs/{other}' for other in others[:4])})"
    )


def refuse_lost_none(arguments: Sequence[str]) -> None:
    """Rejects an override None that would change something. MONAI itself leaves out an option that is None.

    Args:
        arguments: a command line without the program.

    Raises:
        UserError: the first such option, with the way to say it.
    """
    names = [name for name in ids_of(arguments) if given_values(arguments, name)[-1:] == ["None"]]
    if not names:
        return
    parser = ConfigParser()
    parser.read_config(files_of(arguments))
    for name in names:
        if name in parser and parser[name] is not None:
            raise UserError(f"--{name} None: MONAI leaves out an option that is None; say --{name} '$None'")


def refuse_lost_parts(given: Mapping[str, object]) -> None:
    """Rejects an option for a part of what another option replaces as a whole. MONAI itself would ignore it where it
    stands first, and end in a traceback where the other one names an entry of a file.

    Args:
        given: values by id, in the order in which they are set.

    Raises:
        UserError: the first such option.
    """
    plain = {name.lstrip("+").replace("#", "::"): value for name, value in given.items()}
    order = list(plain)
    for name in order:
        wholes = [other for other in order if name.startswith(f"{other}::")]
        for whole in wholes:
            is_entry = str(plain[whole])[:1] in ("%", "@")
            if is_entry or order.index(whole) > order.index(name):
                raise UserError(
                    f"--{name}: --{whole} replaces all of {whole} by {plain[whole]}; leave one of the two out, or name "
                    "an entry of your own that has both"
                )


def refuse_misspelled_ids(config: Mapping[str, object]) -> None:
    """Rejects an id of a patch, or of a call from Python, that looks like a known one and that nothing refers to.

    Args:
        config: a complete configuration, its patches included.

    Raises:
        UserError: the first such id, with the known one that it looks like.
    """
    known, _ = known_ids()
    text = json.dumps(config, default=str)
    for name in config:
        if name in known or name.startswith("_") or is_referred_to(name, text):
            continue
        if nearest := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
            raise UserError(f"{name}: nothing in the configuration uses this id; did you mean {nearest[0]}?")


@cache
def known_ids() -> tuple[set[str], dict[str, set[str]]]:
    """Returns the ids of all shipped configurations (nested ones as `a::b`), and each `_target_` of every component."""
    known: set[str] = set()
    components: dict[str, set[str]] = {}

    def walk(node: object, name: str) -> None:
        if name:
            known.add(name)
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in children:
            if key == "_target_" and isinstance(child, str):
                components.setdefault(name, set()).add(child)
            walk(child, f"{name}::{key}" if name else str(key))

    for file in configurations():
        content = json.loads(file.read_text(encoding="utf-8"))
        walk({key.lstrip("+"): value for key, value in content.items()}, "")
    return known, components


def configurations() -> list[Path]:
    """The shipped files that hold ids of a run."""
    return [file for file in sorted(CONFIGS.glob("*.json")) if file.name not in NO_PATCHES]


def is_argument(name: str, components: Mapping[str, Iterable[str]]) -> bool:
    """Returns whether `a::b` is an argument that a component `a` accepts, even if no configuration sets it."""
    parent, _, argument = name.rpartition("::")
    for target in components.get(parent, ()):
        found: Any = locate(ConfigComponent({"_target_": target}).resolve_module_name())
        if argument in inspect.signature(found).parameters:
            return True
    return False
