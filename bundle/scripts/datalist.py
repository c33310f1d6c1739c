"""`python -m scripts.datalist` is another name of `python -m scripts.data`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("scripts.data", run_name="__main__")
