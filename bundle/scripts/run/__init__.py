"""The first and last steps of every run: check the command line and the knobs, lock the output folder, open the log
file, and print the error that ends a run."""
