"""`python -m scripts.calibrate` is another name of `python -m scripts.doubt`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("scripts.doubt", run_name="__main__")
