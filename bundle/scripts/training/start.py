"""The score of the weights that a training starts from: a model that validates worse does not take their place."""

from ignite.engine import Engine, Events
from torch import nn

from scripts.core.kinds import bare
from scripts.training.best_model import BestModel
from scripts.training.checkpoints import Checkpoints
from scripts.training.handlers import StopEarly
from scripts.training.history import History

OTHERS = "unknown data"  # weights that another handler has loaded do not tell


class StartScore:
    """Validates a training's first weights before its first epoch, if they were given to it.

    That is so if `--pretrained` names a file, or if a handler of the trainer has loaded weights, such as MONAI's
    CheckpointLoader in front of the others. The score is epoch 0 of the history, and the one to beat: `model.pt` holds
    these weights until an epoch is better. Nothing of this happens in a resumed run, which knows the score, or where
    no epoch is chosen by its score. This is attached after everything else.

    Args:
        origin: what the given weights were trained on, in words; None if none were given.
        network: the network that is trained.
        averaged: the network that is validated. If it is an average, it starts from the same weights.
        evaluator: validation engine.
        history, early_stop, best_model: are told the score.
        checkpoints: know whether the run is a resumed one.
    """

    def __init__(
        self,
        origin: str | None,
        network: nn.Module,
        averaged: nn.Module,
        evaluator: Engine,
        history: History,
        early_stop: StopEarly,
        best_model: BestModel,
        checkpoints: Checkpoints,
    ):
        self.origin = origin
        self.network, self.averaged = bare(network), bare(averaged)
        self.evaluator, self.history, self.early_stop = evaluator, history, early_stop
        self.best_model, self.checkpoints = best_model, checkpoints

    def attach(self, trainer: Engine) -> None:
        self.before = self.versions()
        trainer.add_event_handler(Events.STARTED, self.begin)

    def versions(self) -> list[tuple[int, int]]:
        """Changes with every change of the weights."""
        return [(id(weight), weight._version) for weight in self.network.parameters()]

    def begin(self, trainer: Engine) -> None:
        if self.checkpoints.resumed_from is not None:
            return
        if self.origin is None and self.versions() == self.before:
            return
        self.best_model.started_from = self.origin or OTHERS
        if self.averaged is not self.network:
            self.averaged.load_state_dict(self.network.state_dict())
        self.best_model.keep_start()
        if self.best_model.keep_last:
            return
        self.validate()
        self.history.add_start()
        self.best_model.update(0)
        if self.early_stop.active:
            self.early_stop(trainer)

    def validate(self) -> None:
        """Runs the validation as that of epoch 0; MONAI's engine would go on with epoch 1."""
        ending = self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.terminate())
        self.evaluator.run(0)
        ending.remove()
