"""The one error a user is meant to see: a single line that says what was found, what was expected and what to do."""


class UserError(SystemExit):
    """Ends a command with its message on standard error and exit status 1, without a traceback."""
