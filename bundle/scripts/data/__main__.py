"""The command `python -m scripts.datalist` (or `scripts.data`), see `command.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.data.command.main", name="scripts.datalist")
