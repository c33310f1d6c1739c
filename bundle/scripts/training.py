"""Small handlers of the training loop: seeding, stopping on a bad loss, stopping early."""

import math
import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from scripts.errors import UserError


class SeedEachEpoch:
    """Sets every random stream from (seed, epoch), so that a resumed run draws what an unbroken one would have drawn.

    Dropout and shuffling follow torch's generator, the random transforms their own; a worker process is seeded by
    MONAI's loader from torch's generator. Under torchrun every process draws its own stream.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        stream = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()]).generate_state(1)[0]
        seed = int(stream) % 2**31
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        set_rnd(engine.data_loader.dataset, seed)


class StopOnBadLoss:
    """Ends the run at the first loss that is not finite, before it reaches the weights."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda: engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self))

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"]
        if not torch.isfinite(loss):
            raise UserError(
                f"epoch {engine.state.epoch}, iteration {engine.state.iteration}: the loss is {loss.item()}, expected "
                "a finite number; weights up to the last epoch are kept. Lower learning_rate or look at the images"
            )


class StopEarly(EarlyStopping):
    """ignite's EarlyStopping, attached to the trainer and read after every validation.

    Args:
        patience: validations without a better score before the run ends; 0 never ends it.
        evaluator: validation engine whose `key_metric` is the score.
        key_metric: name of the metric, the larger the better.
    """

    def __init__(self, patience: int, evaluator: Engine, key_metric: str):
        self.active = patience > 0
        super().__init__(max(1, patience), self.score, trainer=evaluator)
        self.evaluator, self.key_metric = evaluator, key_metric

    def score(self, _: Engine) -> float:
        value = self.evaluator.state.metrics[self.key_metric]
        return -1.0 if math.isnan(value) else value

    def attach(self, trainer: Engine) -> None:
        self.trainer = trainer
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.check)

    def check(self, trainer: Engine) -> None:
        if self.active and self.evaluator.state.epoch == trainer.state.epoch:
            self(trainer)
