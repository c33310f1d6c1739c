"""The first and last steps of every run: the command line and the knobs are checked, the output folder is locked, the
log file is opened. It may import `core`."""
