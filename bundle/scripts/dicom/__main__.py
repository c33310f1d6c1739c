"""`python -m scripts.dicom`: see `commands.py` and `importing.py`."""

from scripts.core.commands import run_command

COMMANDS = {
    "list": "scripts.dicom.commands.list_series",
    "export": "scripts.dicom.commands.export",
    "import": "scripts.dicom.importing.import_structures",
}

if __name__ == "__main__":
    run_command(COMMANDS, name="scripts.dicom")
