"""`python -m scripts.weeks`: see `command.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.weeks.command.main", name="scripts.weeks")
