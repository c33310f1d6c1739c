"""What the words of a command line of `monai.bundle run` say: files, run, ids and values."""

import ast
import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import monai.bundle
from monai.bundle import ConfigParser


def files_of(arguments: Sequence[str]) -> list[str]:
    """The configuration files of a command line."""
    found = literal(value_of(arguments, "config_file") or [])
    return found.split(",") if isinstance(found, str) else [str(file) for file in found]


def literal(value: Any) -> Any:
    """What a word of the command line means in Python, or the word itself."""
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(value)
    return value


def run_of(arguments: Sequence[str]) -> str:
    """The name of the run that a command line asks for."""
    _, first, *_ = [*arguments, "-", "-"]
    return (value_of(arguments, "run_id") or "run") if first.startswith("-") else first


def value_of(arguments: Sequence[str], name: str) -> Any:
    """What a command line or its `--args_file` gives for an option; of several values, the last one counts."""
    given = given_values(arguments, name)
    return given[-1] if given else args_file(arguments).get(name)


def given_values(arguments: Sequence[str], name: str) -> list[str]:
    """All values of an option in a command line, which may be written with - in place of _, as --config-file."""
    words = [part for word in arguments for part in (word.split("=", 1) if word[:2] == "--" else [word])]
    return [value for word, value in zip(words, words[1:]) if word[:2] == "--" and option(word) == name]


def option(word: str) -> str:
    """The name of an option as a word of the command line gives it."""
    return word.lstrip("-").split("=")[0].replace("-", "_")


def args_file(arguments: Sequence[str]) -> dict:
    """What the file of `--args_file` holds, if there is one."""
    found: dict = {}
    for path in given_values(arguments, "args_file"):
        found |= ConfigParser.load_config_file(path)
    return found


def ids_of(arguments: Sequence[str]) -> list[str]:
    """The ids that a command line and its `--args_file` set, without the arguments of MONAI's command."""
    given = [option(word) for word in arguments if word.startswith("-")]
    given = [word for word in given if word and not word[0].isdigit() and not word[0] == "."]
    return [name for name in [*given, *args_file(arguments)] if name.lstrip("+") not in arguments_of_run()]


def arguments_of_run() -> list[str]:
    """The arguments of MONAI's command itself."""
    return [name for name in inspect.signature(monai.bundle.run).parameters if name != "override"]


def is_bundle_command() -> bool:
    """Returns whether this process is `python -m monai.bundle run ...`."""
    program, *arguments = sys.argv or [""]
    return Path(program) == Path(monai.bundle.__file__).with_name("__main__.py") and arguments[:1] == ["run"]
