"""The outermost step of a command line: an error that the user can mend becomes one line and exit status 1."""

import sys

import fire

from scripts.core.errors import find_user_error


def run_command(component: object, **options) -> None:
    """Runs a function, or functions by name, with the arguments of the command line.

    Args:
        component: what fire takes.
        options: of fire.
    """
    try:
        fire.Fire(component, **options)
    except Exception as error:
        found = find_user_error(error)
        if found is None:
            raise
        sys.exit(str(found))
