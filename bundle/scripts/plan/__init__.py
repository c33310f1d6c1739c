"""Settings for a data set, chosen by its facts and by the time and the memory that a training may take. It may import
`core`, `run`, `networks`, `data` and `check`; the command is `python -m scripts.plan`."""
