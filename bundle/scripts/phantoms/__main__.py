"""The command `python -m scripts.phantom` (or `scripts.phantoms`), see `generate.py`."""

from scripts.core.commands import run_command

if __name__ == "__main__":
    run_command("scripts.phantoms.generate.generate", "scripts.phantoms.generate.summary_line", name="scripts.phantom")
