"""The command `python -m scripts.calibrate`: learns how good results are, from evaluations with several looks."""

import logging
from collections.abc import Sequence
from pathlib import Path

from monai.utils import ensure_tuple

from scripts.core.errors import UserError
from scripts.doubt.calibration import learn, write
from scripts.training.weights import read_weights


def main(runs: str | Sequence[str], weights: str | Sequence[str] = "models/model.pt") -> None:
    """Learns from evaluations with configs/calibrate.json what to expect of the weights, and keeps it beside them.

    One evaluation of validation cases needs no such command: it ends with the same step. Several are put together
    here, as of the folds, each of a network on the cases that it has not seen.

    Example: python -m scripts.calibrate --runs "['fold0/run/calibration','fold1/run/calibration']" --weights all.json

    Args:
        runs: the folders of the evaluations.
        weights: file of weights, or a list of such files, that the result is kept beside.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    for file in ensure_tuple(weights):
        if not Path(str(file)).is_file():
            raise UserError(f"{file}: not found, expected weights such as models/model.pt; correct --weights")
    folders = [Path(str(run)) for run in ensure_tuple(runs)]
    if not folders:
        raise UserError("runs is empty: expected folders of evaluations; say --runs \"['output/calibration']\"")
    for folder in folders:
        if sum(folder.resolve() == other.resolve() for other in folders) > 1:
            raise UserError(f"{folder}: named twice, so its cases would count twice; name each folder once in --runs")
    found = learn(folders, weights)
    trained = read_weights(ensure_tuple(weights)[0]).info.get("class_names")
    if trained and list(trained[1:]) != list(found.errors):
        raise UserError(
            f"{folders[0]}: has the classes {', '.join(found.errors)}, the weights {', '.join(trained[1:])}; name "
            "evaluations of these weights with --runs, or others with --weights"
        )
    write(found, weights)
