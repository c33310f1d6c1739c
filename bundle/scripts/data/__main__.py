"""The command `python -m scripts.datalist` (or `scripts.data`), see `command.py`."""

from scripts.core.commands import run_command
from scripts.data.command import main

if __name__ == "__main__":
    run_command(main, name="scripts.datalist")
