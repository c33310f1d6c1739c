"""Grids and searches over any knobs, as many training runs, on Optuna. It may import every room but `inference`."""
