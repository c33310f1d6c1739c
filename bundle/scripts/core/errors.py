"""Errors that a user is meant to see, and the description of any other error in one line."""

import logging

NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")

tracebacks = logging.getLogger("tracebacks")  # a run writes it to its log file
tracebacks.propagate = False  # and to nothing else
tracebacks.addHandler(logging.NullHandler())


class UserError(Exception):
    """A mistake that the user can correct. Its message is one line: which file, what was found, what was expected, what
    to do.

    The outermost step of a command prints this line and exits with status 1.
    """


class Stopped(SystemExit):
    """Ends the process after a signal, with status 128 + the signal's number, as a shell reports it."""


def refuse_negative(**options: float) -> None:
    """Refuses an option below 0."""
    for name, value in options.items():
        if value < 0:
            raise UserError(f"--{name}: found {value}, expected 0 or more")


def find_user_error(error: BaseException | None) -> UserError | None:
    """Returns the UserError in a chain of errors, or None. MONAI wraps the errors that a component raises."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def one_line_reason(error: BaseException) -> str:
    """Describes an error in one line, by its first cause. The traceback goes to the log file if the line is not all."""
    known = find_user_error(error)
    if known is not None:
        return " ".join(str(known).split())[:300]
    tracebacks.error("a case failed", exc_info=error)
    root = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    text = " ".join(str(root).split())[:300]
    if is_out_of_memory(root):
        return f"out of memory ({text[:120]})"
    return f"{type(root).__name__}: {text}" if text else type(root).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was full. On a CPU, torch raises a RuntimeError that differs from others by its text only."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's; help needs no torch
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)
