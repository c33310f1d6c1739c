"""The command `python -m scripts.next`, see `command.py`."""

from scripts.core.commands import run_command
from scripts.next.command import main

if __name__ == "__main__":
    run_command(main, name="scripts.next")
