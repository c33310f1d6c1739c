"""`python -m scripts.report`: see `commands.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command(
        {name: f"scripts.report.commands.{name}" for name in ("evaluate", "compare", "code", "view")},
        name="scripts.report",
    )
