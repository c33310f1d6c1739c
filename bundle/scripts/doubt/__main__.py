"""The command `python -m scripts.calibrate`, see `command.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.doubt.command.main", name="scripts.calibrate")
