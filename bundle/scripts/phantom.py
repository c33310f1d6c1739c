"""`python -m scripts.phantom` is another name of `python -m scripts.phantoms`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("scripts.phantoms", run_name="__main__")
