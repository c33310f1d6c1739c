"""`python -m scripts.weeks`: see `command.py`."""

from scripts.core.commands import run_command
from scripts.weeks.command import main

if __name__ == "__main__":
    run_command(main)
