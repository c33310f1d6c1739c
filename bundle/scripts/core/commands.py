"""The outermost step of every command line: a mistake of the user is printed as one line, with exit status 1."""

import difflib
import inspect
import sys
from collections.abc import Sequence

import fire

from scripts.core.errors import UserError, find_user_error


def run_command(component: object, **options) -> None:
    """Runs a function with the arguments of the command line. The `__main__.py` of a room calls it.

    Args:
        component: a function, or a dictionary of functions by name, as `fire.Fire` accepts it.
        options: other arguments of `fire.Fire`; `name` is what `--help` calls the command.
    """
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):  # a function that takes any --NAME would take --help too
        arguments = ["--", "--help"]
    try:
        refuse_unknown_options(component, arguments)
        fire.Fire(component, command=arguments, **options)
    except Exception as error:
        found = find_user_error(error)
        if found is None:
            raise
        sys.exit(str(found))


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
