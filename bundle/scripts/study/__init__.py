"""Studies: many training runs over a grid or a search of any knobs, with Optuna."""
