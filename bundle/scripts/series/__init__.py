"""DICOM series: files are found, sorted into series, placed in space and read with distrust, and a volume is written as
a series. pydicom is imported where it is used, so that the bundle runs without it."""
