"""The command `python -m scripts.study`, see `command.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.study.command.main", name="scripts.study")
