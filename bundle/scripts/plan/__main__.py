"""The command `python -m scripts.plan`, see `command.py`."""

from scripts.core.commands import run_command
from scripts.plan.command import main

if __name__ == "__main__":
    run_command(main, name="scripts.plan")
