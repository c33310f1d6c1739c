"""What the bundle adds to MONAI, in ten rooms. A room imports only rooms on lower floors.

floor 6  study, inference
floor 5  report
floor 4  training
floor 3  check
floor 2  data, networks, phantoms, run
floor 1  core

`python -m scripts.check`, `.datalist`, `.phantom`, `.report` and `.study` are command lines.
"""
