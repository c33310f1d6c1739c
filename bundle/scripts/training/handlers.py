"""Small handlers of the training loop: seeding, validation, stopping on a bad loss, stopping early."""

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from monai.handlers import ValidationHandler
from torch.utils.data import BatchSampler, ConcatDataset, Dataset

from scripts.core.errors import UserError


class SeedEachEpoch:
    """Seeds every random generator from (seed, epoch), so that a resumed run draws the same numbers as an unbroken one.

    Dropout and shuffling use torch's generator, and each random transform has its own. MONAI's loader seeds a worker
    process from torch's generator. Under torchrun every process draws numbers of its own.
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


class Recorder:
    """A sampler that remembers which indices it drew.

    The loader keeps their order, however many workers prepare the batches.

    Args:
        sampler: draws the indices.
    """

    def __init__(self, sampler: Iterable[int]):
        self.sampler = sampler
        self.drawn: list[int] = []

    def __iter__(self) -> Iterator[int]:
        self.drawn = []
        for index in self.sampler:
            self.drawn.append(index)
            yield index

    def __len__(self) -> int:
        return len(cast(Sized, self.sampler))  # torch's samplers have a length, though their class has none


class ValidateEpochs(ValidationHandler):
    """MONAI's ValidationHandler, which validates every `interval` epochs; this one validates the last epoch as well.

    Without it, the epochs after the last multiple of `interval` would have no score and could not become the best
    model; a run of fewer epochs than `interval` would leave no model at all.
    """

    def attach(self, engine: Engine) -> None:
        if not self.epoch_level:
            super().attach(engine)
            return
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.validate_if_due)
        if self.exec_at_start:
            engine.add_event_handler(Events.STARTED, self)

    def validate_if_due(self, engine: Engine) -> None:
        is_last = engine.state.epoch == engine.state.max_epochs or engine.should_terminate
        if is_last or engine.state.epoch % self.interval == 0:
            self(engine)


class StopOnBadLoss:
    """Ends the run at the first loss that is NaN or infinite, before it changes the weights, and names the cases."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)

    def begin(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        batches = getattr(engine.data_loader, "batch_sampler", None)
        if isinstance(batches, BatchSampler) and not isinstance(batches.sampler, Recorder):
            batches.sampler = Recorder(batches.sampler)  # the images in a batch carry no names

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"]
        if not torch.isfinite(loss):
            cases = self.cases(engine)
            raise UserError(
                f"epoch {engine.state.epoch}, iteration {engine.state.iteration}: the loss is {loss.item()}"
                f"{' on ' + ', '.join(cases) if cases else ''}, expected a finite number; the weights of the "
                "epochs before are kept. Look at these images, or lower learning_rate"
            )

    def cases(self, engine: Engine) -> list[str]:
        """The images of the current batch; none if the loader or the data set are of a kind that does not tell them."""
        batches, dataset = getattr(engine.data_loader, "batch_sampler", None), engine.data_loader.dataset
        sampler = getattr(batches, "sampler", None)
        if batches is None or not isinstance(sampler, Recorder):
            return []
        first = (engine.state.iteration - 1) % engine.state.epoch_length * batches.batch_size
        drawn = sampler.drawn[first : first + batches.batch_size]
        listed = listed_cases(dataset)
        items = [listed[index] for index in drawn] if listed else []
        return [str(item["image"]) for item in items if isinstance(item, dict) and "image" in item]


def listed_cases(dataset: Dataset) -> list:
    """What a dataset of MONAI was given, in the order of its indices; nothing if it is of another kind."""
    parts = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
    return [case for part in parts for case in getattr(part, "data", [])]


class StopEarly(EarlyStopping):
    """ignite's EarlyStopping, attached to the trainer and applied after every validation.

    Args:
        patience: validations without a better score before the run ends; 0 never ends it.
        evaluator: validation engine whose `key_metric` is the score.
        key_metric: name of the metric; a larger value is better.
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

    def load_state_dict(self, state_dict: Mapping) -> None:
        """Restores the counter. A run that was killed just before it would have stopped early stops now."""
        super().load_state_dict(state_dict)
        if self.active and self.counter >= self.patience:
            self.trainer.terminate()

    def check(self, trainer: Engine) -> None:
        if self.active and self.evaluator.state.epoch == trainer.state.epoch:
            self(trainer)
