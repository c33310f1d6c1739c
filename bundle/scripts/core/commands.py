"""The outermost step of every command line: a mistake of the user is printed as one line, with exit status 1.

A command is named by the path of its function, such as `scripts.check.dataset.main`. Its module, which needs seconds to
import MONAI, is imported only when there is something to run: the help and a misspelled option are answered from the
text of the module.
"""

import ast
import contextlib
import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import fire

from scripts.core.errors import UserError, find_user_error
from scripts.core.paths import BUNDLE

HELP = ("--help", "-h")
KINDS = {  # of values, in words
    int: "a whole number", float: "a number", str: "text", bool: "True or False", Sequence: "a list",
    dict: "a dictionary", Mapping: "a dictionary",
}  # fmt: skip


def run_command(component: str | Callable | Mapping[str, str], serialize: str | None = None, **options) -> None:
    """Runs a function with the arguments of the command line. The `__main__.py` of a room calls it.

    Args:
        component: a function, or its path, or a dictionary of paths by name.
        serialize: path of a function that makes a line of what the command returns.
        options: other arguments of `fire.Fire`; `name` is what `--help` calls the command.
    """
    arguments = sys.argv[1:]
    if len(arguments) == 1 and arguments[0] in HELP:  # a function that takes any --NAME would take --help too
        arguments = ["--", "--help"]
    is_help = any(word in HELP for word in arguments) or (isinstance(component, Mapping) and not arguments)
    try:
        described = each(component, outline)
        refuse_unknown_options(described, arguments)
        if serialize is not None and not is_help:
            options["serialize"] = load(serialize)
        fire.Fire(described if is_help else each(component, load_checked), command=arguments, **options)
    except Exception as error:
        found = find_user_error(error)
        if found is None and isinstance(error, OSError) and error.filename:
            sys.exit(f"{error.filename}: {error.strerror}; name another file or folder, or make this one usable")
        if found is None:
            raise
        sys.exit(str(found))


def each(component: str | Callable | Mapping[str, str], call: Callable) -> Callable | dict[str, Callable]:
    """Replaces the paths of functions by what the call makes of them."""
    if isinstance(component, Mapping):
        return {name: call(path) for name, path in component.items()}
    return call(component) if isinstance(component, str) else component


def load(path: str) -> Callable:
    """Returns the function at a path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def load_checked(path: str) -> Callable:
    """Returns the function at a path, which refuses values of another type than it says, and a file for output_dir: not
    when the work is done, but before."""
    function = load(path)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*values, **named):
        given = signature.bind(*values, **named)
        for name, value in given.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                given.arguments[name] = tuple(of_type(one, parameter.annotation, name) for one in value)
            elif parameter.kind is not parameter.VAR_KEYWORD:
                given.arguments[name] = of_type(value, parameter.annotation, f"--{name}")
        if "output_dir" in given.arguments:
            refuse_file(str(given.arguments["output_dir"]))
        return function(*given.args, **given.kwargs)

    return checked


def refuse_file(folder: str, option: str = "output_dir") -> None:
    """Refuses a folder to write to whose place, or that of a folder above it, a file has."""
    for place in (Path(folder), *Path(folder).parents):
        if place.is_file():
            raise UserError(f"{place}: --{option} is a file, expected a folder; name another one")


def of_type(value: Any, annotation: Any, shown: str) -> Any:
    """Returns a value of the command line as its parameter wants it: fire makes a number of `2024`, even where it names
    a folder, True of an option without a value, and text of one item of a list.

    Args:
        value: as fire has read it.
        annotation: the type of the parameter, `inspect.Parameter.empty` for any.
        shown: the parameter's name in the message.

    Raises:
        UserError: it is of another type.
    """
    choices = get_args(annotation) if isinstance(annotation, UnionType) else [annotation]
    kinds = [get_origin(one) or one for one in choices]
    if inspect.Parameter.empty in kinds or type(value) in kinds:
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (float in kinds and number) or (Mapping in kinds and isinstance(value, dict)):
        return value
    if Sequence in kinds and isinstance(value, list | tuple):
        return list(value)
    if Sequence in kinds and isinstance(value, str):
        return [value]
    if str in kinds and number:
        return as_typed(value)
    words = [KINDS.get(kind, kind.__name__) for kind in kinds if kind is not NoneType]
    found = "no value" if value is True and bool not in kinds else repr(value)
    raise UserError(f"{shown}: found {found}, expected {' or '.join(words)}")


def as_typed(number: float) -> str:
    """The word of the command line that fire has read as a number: a folder 2024.10 is another one than 2024.1."""
    for word in sys.argv[1:]:
        text = word.rpartition("=")[2]
        with contextlib.suppress(ValueError, SyntaxError):
            if ast.literal_eval(text) == number:
                return text
    return str(number)


def outline(path: str) -> Callable:
    """Returns a function with the arguments and the description of the one at a path, which does nothing.

    Of its module only the imports of Python's own modules and the values written there are carried out.
    """
    module, _, name = path.rpartition(".")
    file = BUNDLE / f"{module.replace('.', '/')}.py"
    parts = ast.parse(file.read_text(encoding="utf-8")).body
    described = next(part for part in parts if isinstance(part, ast.FunctionDef) and part.name == name)
    described.body, described.decorator_list = [ast.Expr(ast.Constant(ast.get_docstring(described, clean=False)))], []
    kept = [*(part for part in parts if is_of_python(part) or is_value(part)), described]
    found: dict = {}
    exec(compile(ast.fix_missing_locations(ast.Module(kept, [])), str(file), "exec"), found)
    return found[name]


def is_of_python(part: ast.stmt) -> bool:
    """Whether it imports from a module of Python's own."""
    if isinstance(part, ast.ImportFrom):
        return (part.module or "").split(".")[0] in sys.stdlib_module_names
    return isinstance(part, ast.Import) and all(one.name.split(".")[0] in sys.stdlib_module_names for one in part.names)


def is_value(part: ast.stmt) -> bool:
    """Whether it gives a name a value that is written there, such as `SIZE = (64, 64, 32)`."""
    try:
        return isinstance(part, ast.Assign) and ast.literal_eval(part.value) is not part
    except ValueError:
        return False


def refuse_unknown_options(component: object, arguments: Sequence[str]) -> None:
    """Rejects a misspelled option before anything runs; fire itself would run the command first.

    Args:
        component: a function, or a dictionary of functions by name.
        arguments: the command line without the program.

    Raises:
        UserError: the first option that the function does not have, with the nearest one.
    """
    if isinstance(component, dict):
        component, arguments = component.get(next(iter(arguments), "")), arguments[1:]
    if not callable(component) or "--" in arguments:
        return
    parameters = inspect.signature(component).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for word in (word for word in arguments if word.startswith("--")):
        name = word[2:].partition("=")[0].replace("-", "_")
        if name not in parameters and name.removeprefix("no") not in parameters and name != "help":
            nearest = difflib.get_close_matches(name, parameters, n=1, cutoff=0)[0]
            raise UserError(f"--{name}: the command has no such option; did you mean --{nearest}?")
