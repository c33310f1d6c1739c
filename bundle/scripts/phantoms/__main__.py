"""The command `python -m scripts.phantom` (or `scripts.phantoms`), see `generate.py`."""

from scripts.core.commands import run_command
from scripts.phantoms.generate import generate, summary_line

if __name__ == "__main__":
    run_command(generate, serialize=summary_line, name="scripts.phantom")
