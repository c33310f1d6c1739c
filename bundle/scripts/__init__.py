"""What the bundle adds to MONAI, in thirteen rooms. A room imports only rooms on lower floors.

floor 8  study, inference
floor 7  weeks
floor 6  report
floor 5  training
floor 4  check, dicom
floor 3  data, phantoms
floor 2  series, networks, run
floor 1  core

`python -m scripts.check`, `.datalist`, `.dicom`, `.phantom`, `.report`, `.study` and `.weeks` are command lines.
"""

import sys


class Folders(list):
    """This folder, then all others of the name `scripts` on sys.path.

    Most bundles call their package so. In one process with this one they find their own files in this way, as long as
    no file has the name of one here.
    """

    def __iter__(self):
        return iter(dict.fromkeys([*super().__iter__(), *(f"{folder or '.'}/scripts" for folder in sys.path)]))


__path__ = Folders(__path__)
