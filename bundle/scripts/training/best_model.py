"""`model.pt`: the weights of the epoch with the best validation score, or of the last epoch.

Epoch 0 is that of the weights that the training started from, if they were given to it (`scripts.training.start`).
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from ignite.engine import Engine
from torch import nn

from scripts.core.errors import UserError
from scripts.core.kinds import bare
from scripts.core.processes import is_main_process
from scripts.training.checkpoint_files import clean_up_after_kill
from scripts.training.weights import read_weights
from scripts.training.weights_info import info_file, rename_previous_weights, write_weights

logger = logging.getLogger(__name__)

NONE_YET = {"epoch": 0, "score": -1.0}


class BestModel:
    """Writes `model.pt`, a plain state dict, and `model.json`, which says what is known of it.

    Args:
        ckpt_dir: folder of both files.
        network: its weights are kept; of a training that averages weights, the averaged network.
        evaluator: validation engine.
        key_metric: name of the evaluator's metric to maximise.
        info: what is known of the weights: `class_names`, `trained_on`, `spatial_size`, `ranges`.
        keep_last: True keeps the weights of the last epoch, whatever its score.
    """

    def __init__(
        self,
        ckpt_dir: str,
        network: nn.Module,
        evaluator: Engine,
        key_metric: str,
        info: Mapping,
        keep_last: bool = False,
    ):
        self.file = Path(ckpt_dir) / "model.pt"
        self.network, self.evaluator, self.key_metric = network, evaluator, key_metric
        self.fixed_info = {name: list(value) if isinstance(value, tuple) else value for name, value in info.items()}
        self.keep_last = keep_last
        self.best = dict(NONE_YET)
        self.started_from: str | None = None  # what the given weights were trained on, in words

    @property
    def info(self) -> dict:
        info = {**self.fixed_info, **self.best}
        if self.started_from is not None:
            data = info.get("trained_on", "unknown data")
            info["trained_on"] = f"{data}, started from weights trained on {self.started_from}"
            if self.best["epoch"] == 0:
                info["trained_on"] = f"{self.started_from}; training on {data} has not bettered them"
        return info

    @property
    def none_yet(self) -> bool:
        """Whether no weights are kept so far."""
        return self.best == NONE_YET

    def state_dict(self) -> dict:
        return {**self.best, **({"started_from": self.started_from} if self.started_from is not None else {})}

    def load_state_dict(self, state: Mapping) -> None:
        self.best = {key: state[key] for key in NONE_YET}
        self.started_from = state.get("started_from")

    def start_anew(self) -> None:
        """Renames what an earlier run has left."""
        rename_previous_weights(self.file)

    def keep_start(self) -> None:
        """Writes the weights that the training starts from, before anything is known of them: a program that serves
        `model.pt` meanwhile must find some. MONAI Label's server would segment with random ones and say nothing."""
        if is_main_process():
            write_weights(bare(self.network).state_dict(), self.info, self.file)

    def reset_best_if_lost(self) -> None:
        """For a resumed run: if the best weights so far are lost, the next validated epoch becomes the best. If those
        that are kept are of a later epoch than the checkpoint, since the run was stopped between the two, they are the
        best."""
        for file in (self.file, info_file(self.file)):
            clean_up_after_kill(file)
        if self.none_yet and not self.file.is_file():
            return
        try:
            kept = read_weights(self.file).info
            epoch, score = kept.get("epoch"), kept.get("score")
            if not self.keep_last and epoch is not None and score is not None and epoch > self.best["epoch"]:
                self.best = {"epoch": epoch, "score": score}
        except UserError as error:
            logger.warning(
                f"the weights of epoch {self.best['epoch']}, the best so far, are lost; the best epoch from here on "
                f"is kept instead: {error}"
            )
            rename_previous_weights(self.file)
            self.best = dict(NONE_YET)

    def update(self, epoch: int) -> None:
        """Keeps the weights of this epoch if they are the best so far, or if the last ones are to be kept."""
        validated = self.evaluator.state.epoch == epoch
        score = float(self.evaluator.state.metrics.get(self.key_metric, math.nan)) if validated else math.nan
        if not self.keep_last and not score > self.best["score"]:  # a NaN is never greater
            return
        self.best = {"epoch": epoch, "score": NONE_YET["score"] if math.isnan(score) else score}
        if is_main_process():
            write_weights(bare(self.network).state_dict(), self.info, self.file)

    def summary(self) -> str:
        """Which weights are kept, and where."""
        if self.none_yet:
            if self.file.is_file():
                return f"no epoch has a validation score, so {self.file} has the weights that the training started from"
            return f"no epoch has a validation score, so there is no {self.file.name}"
        if self.best["epoch"] == 0:
            return (
                f"no epoch validated better than the weights that the training started from ({self.key_metric} "
                f"{self.best['score']:.4f}), so these are in {self.file}"
            )
        if self.keep_last:
            return f"the weights of epoch {self.best['epoch']} are in {self.file}"
        return f"best {self.key_metric} {self.best['score']:.4f} at epoch {self.best['epoch']}, weights in {self.file}"
