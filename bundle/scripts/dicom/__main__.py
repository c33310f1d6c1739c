"""`python -m scripts.dicom`: see `commands.py` and `importing.py`."""

from scripts.core.commands import run_command
from scripts.dicom.commands import export, list_series
from scripts.dicom.importing import import_structures

COMMANDS = {"list": list_series, "export": export, "import": import_structures}

if __name__ == "__main__":
    run_command(COMMANDS, name="scripts.dicom")
