"""How organs move between the scans of a patient, relative to the bones: surfaces, registration, figures, page and
command."""
