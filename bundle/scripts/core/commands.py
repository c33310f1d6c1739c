"""The outermost step of every command line: a mistake of the user is printed as one line, with exit status 1."""

import sys

import fire

from scripts.core.errors import find_user_error


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
        fire.Fire(component, command=arguments, **options)
    except Exception as error:
        found = find_user_error(error)
        if found is None:
            raise
        sys.exit(str(found))
