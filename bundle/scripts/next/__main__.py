"""The command `python -m scripts.next`, see `command.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.next.command.main", name="scripts.next")
