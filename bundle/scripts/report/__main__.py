"""`python -m scripts.report`: see `commands.py`."""

from scripts.core.commands import run_command
from scripts.report.commands import code, compare, evaluate, view

if __name__ == "__main__":
    run_command({"evaluate": evaluate, "compare": compare, "code": code, "view": view})
