"""Segmentations as DICOM: SEG and RTSTRUCT are written from a label map and the series it belongs to, and are read back
to a label map. pydicom, highdicom and contourpy are imported where they are used, so that the bundle runs without
them."""
