"""What the bundle adds to MONAI, in rooms. A room imports only rooms on lower floors.

floor 10  next
floor 9   inference, study
floor 8   weeks
floor 7   report
floor 6   doubt
floor 5   plan, training
floor 4   check, dicom
floor 3   data, phantoms
floor 2   networks, run, series
floor 1   core

`python -m scripts.NAME` is a command line for calibrate, check, datalist, dicom, next, phantom, plan, report, study and
weeks.
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
