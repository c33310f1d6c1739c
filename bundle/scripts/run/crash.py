"""What a run prints when an error ends it: one line for a mistake of the user, at most three lines for other errors.

`command_line.py` installs it as `sys.excepthook`.
"""

import inspect
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb

from monai.utils import instantiate

from scripts.core.errors import UserError, find_user_error, one_line_reason
from scripts.core.files import write_json
from scripts.run.session import open_handles

ERROR_FILE = "RUN_ERROR_FILE"  # environment variable; if it names a file, the reason is also written there as JSON
# annotations that are checked
PLAIN_TYPES: dict[object, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def report_crash(kind: type[BaseException], error: BaseException, trace, debug: bool = False) -> None:
    """Prints the error that ended a run, in place of `sys.excepthook`. The traceback goes to the log file.

    Args:
        kind: class of the error.
        error: the error.
        trace: its traceback.
        debug: whether to print the complete traceback, if the error is not a mistake of the user.
    """
    if issubclass(kind, KeyboardInterrupt):
        print("stopped by Ctrl-C", file=sys.stderr)
        return
    known = find_user_error(error)
    if known is not None:
        reason = [str(known)]
    else:
        reason = [line for line in (one_line_reason(error), failed_component(trace)) if line]
    if known is None and debug:
        sys.__excepthook__(kind, error, trace)
    else:
        for line in reason if known is not None else [*reason, traceback_place()]:
            print(line, file=sys.stderr)
    if ERROR_FILE in os.environ:
        with suppress(OSError, UserError):  # the error is printed already
            write_json({"reason": "; ".join(reason)}, Path(os.environ[ERROR_FILE]))


def traceback_place() -> str:
    """Says where the traceback of an error is."""
    file = next((part.baseFilename for part in open_handles if isinstance(part, logging.FileHandler)), None)
    return f"The traceback is in {file}; --debug True prints it." if file else "--debug True prints the traceback."


def failed_component(trace) -> str:
    """Names the component that could not be created, and its arguments: those of a wrong type, or all plain ones."""
    frames = [frame for frame, _ in walk_tb(trace) if frame.f_code is instantiate.__code__]
    component = frames[-1].f_locals.get("component") if frames else None
    if not inspect.isclass(component):
        return ""
    given = frames[-1].f_locals["kwargs"]
    annotations = {name: part.annotation for name, part in inspect.signature(component.__init__).parameters.items()}
    expected = {name: getattr(kind, "__name__", kind) for name, kind in annotations.items()}  # "int" or int
    wrong = [
        f"{name} is {value!r}, expected {expected[name]}"
        for name, value in given.items()
        if expected.get(name) in PLAIN_TYPES and not isinstance(value, PLAIN_TYPES[expected[name]])
    ]
    plain = [f"{name} {value!r}" for name, value in given.items() if isinstance(value, str | int | float | None)]
    return f"{component.__name__}: " + ("; ".join(wrong) or f"given {', '.join(plain)}")[:300]
