"""Everything about files of images and labels: find them in a folder, pair them, split them by patient, read them.
Also codes in place of patients' names."""
