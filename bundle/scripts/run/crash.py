"""What a run prints when an error ends it: one line for a mistake of the user, three lines for anything else."""

import inspect
import logging
import sys
from traceback import walk_tb

from monai.utils import instantiate

from scripts.core.errors import find_user_error, one_line_reason
from scripts.run.session import open_handles

# annotations that a value is held against
PLAIN: dict[object, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def report_crash(kind: type[BaseException], error: BaseException, trace, debug: bool = False) -> None:
    """Takes the place of `sys.excepthook`: the traceback goes to the log file.

    Args:
        kind: class of the error.
        error: what ended the run.
        trace: where it was raised.
        debug: whether an unforeseen error prints its whole traceback.
    """
    if issubclass(kind, KeyboardInterrupt):
        print("stopped by Ctrl-C", file=sys.stderr)
        return
    known = find_user_error(error)
    if known is not None:
        print(known, file=sys.stderr)
        return
    if debug:
        sys.__excepthook__(kind, error, trace)
        return
    file = next((part.baseFilename for part in open_handles if isinstance(part, logging.FileHandler)), None)
    where = f"The traceback is in {file}; --debug True prints it." if file else "--debug True prints the traceback."
    for line in (one_line_reason(error), component_of(trace), where):
        if line:
            print(line, file=sys.stderr)


def component_of(trace) -> str:
    """The component whose making failed and its plain arguments; of these only what has the wrong type, if any has."""
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
        if expected.get(name) in PLAIN and not isinstance(value, PLAIN[expected[name]])
    ]
    plain = [f"{name} {value!r}" for name, value in given.items() if isinstance(value, str | int | float | None)]
    return f"{component.__name__}: " + ("; ".join(wrong) or f"given {', '.join(plain)}")[:300]
