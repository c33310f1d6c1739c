"""Settings for a data set, chosen by its facts and by the time and the memory that a training may take.
The command is `python -m scripts.plan`."""
