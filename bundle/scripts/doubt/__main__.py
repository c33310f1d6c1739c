"""The command `python -m scripts.calibrate`, see `command.py`."""

from scripts.core.commands import run_command
from scripts.doubt.command import main

if __name__ == "__main__":
    run_command(main, name="scripts.calibrate")
