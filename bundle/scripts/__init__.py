"""What the bundle adds to MONAI, in ten rooms. A room imports only rooms on lower floors.

floor 6  study, inference
floor 5  report
floor 4  training
floor 3  check
floor 2  data, networks, phantoms, run
floor 1  core

`python -m scripts.check`, `.datalist`, `.phantom`, `.report` and `.study` are command lines.
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
