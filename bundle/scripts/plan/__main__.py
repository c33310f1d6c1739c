"""The command `python -m scripts.plan`, see `command.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.plan.command.main", name="scripts.plan")
