"""The encoder stays as it is for the first epochs, so that output layers that are still random do not disturb it."""

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import nn
from torch.utils.hooks import RemovableHandle

from scripts.core.kinds import bare
from scripts.networks.encoders import encoder_names


class FrozenEncoder:
    """Keeps the weights and the running statistics of the encoder, to the last bit, for the first epochs.

    Its gradients are dropped before the optimizer sees them: no optimizer changes a weight without one, by decay or
    momentum neither. They are computed all the same, because the processes of a distributed run exchange them, so a
    step takes as long as any other. What is frozen follows from the epoch, so a resumed run needs no state of it.

    Args:
        epochs: how many; 0 freezes nothing.
        network: the network that is trained.
        averaged: the network that is validated. If it is an average, its encoder stays as it is, too.
        modules: names of the modules that are the encoder; needed only if `scripts.networks.encoders` does not know it.
    """

    def __init__(self, epochs: int, network: nn.Module, averaged: nn.Module, modules: list[str] | None = None):
        self.epochs, self.modules = epochs, modules
        self.network, self.averaged = bare(network), bare(averaged)
        self.hooks: list[RemovableHandle] = []

    def attach(self, trainer: Engine) -> None:
        """It must be attached after the average, which it corrects."""
        if not self.epochs:
            return
        self.names = encoder_names(self.network, self.modules)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.drop_gradients)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.keep_average)

    def is_frozen(self, trainer: Engine) -> bool:
        return trainer.state.epoch <= self.epochs

    def begin_epoch(self, trainer: Engine) -> None:
        """Lets the encoder's normalisation use its running statistics, or update them again."""
        while self.hooks:
            self.hooks.pop().remove()
        if self.is_frozen(trainer):
            self.hooks = [module.register_forward_pre_hook(use_running_statistics) for module in self.normalisations()]

    def normalisations(self) -> list[nn.Module]:
        """The modules of the encoder that have running statistics."""
        owners = {name.rpartition(".")[0] for name in self.names if name.endswith(".running_mean")}
        return [module for name, module in self.network.named_modules() if name in owners]

    def drop_gradients(self, trainer: Engine) -> None:
        if self.is_frozen(trainer):
            weights = dict(self.network.named_parameters())
            for name in self.names:
                if name in weights:
                    weights[name].grad = None

    @torch.no_grad()
    def keep_average(self, trainer: Engine) -> None:
        """Puts the encoder back into the average: to average equal values changes their last bits."""
        if self.is_frozen(trainer) and self.averaged is not self.network:
            kept, averaged = self.network.state_dict(), self.averaged.state_dict()
            for name in self.names:
                averaged[name].copy_(kept[name])


def use_running_statistics(module: nn.Module, inputs: tuple) -> None:
    module.eval()
