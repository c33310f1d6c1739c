"""The command `python -m scripts.check`, see `dataset.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.check.dataset.main", name="scripts.check")
