"""The command `python -m scripts.check`, see `dataset.py`."""

from scripts.check.dataset import main
from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command(main, name="scripts.check")
