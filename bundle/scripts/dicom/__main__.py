"""`python -m scripts.dicom`: see `commands.py` and `importing.py`."""

from scripts.core.commands import run_command
from scripts.dicom.commands import export, list_series
from scripts.dicom.importing import import_structures

if __name__ == "__main__":
    commands = {"list": list_series, "export": export, "import": import_structures}
    run_command(commands, name="scripts.dicom")
