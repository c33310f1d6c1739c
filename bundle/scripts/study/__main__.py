"""The command `python -m scripts.study`, see `command.py`."""

from scripts.core.commands import run_command
from scripts.study.command import main

if __name__ == "__main__":
    run_command(main, name="scripts.study")
