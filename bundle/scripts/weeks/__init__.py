"""How organs move between the scans of one patient, relative to the bones: surfaces, registration, figures, the page and
the command `python -m scripts.weeks`. It may import `report` and everything below.
"""
