"""Small handlers of the training loop: seeding, stopping on a bad loss, stopping early."""

import math
import random
from collections.abc import Iterator, Mapping

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from monai.data.utils import set_rnd
from monai.engines.utils import IterationEvents
from torch.utils.data import BatchSampler, Sampler

from scripts.core.errors import UserError


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


class Recorder:
    """A sampler that remembers what it drew. A loader keeps this order, however many workers prepare the batches.

    Args:
        sampler: draws the indices.
    """

    def __init__(self, sampler: Sampler):
        self.sampler = sampler
        self.drawn: list[int] = []

    def __iter__(self) -> Iterator[int]:
        self.drawn = []
        for index in self.sampler:
            self.drawn.append(index)
            yield index

    def __len__(self) -> int:
        return len(self.sampler)


class StopOnBadLoss:
    """Ends the run at the first loss that is not finite, before it reaches the weights, and names the cases."""

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)

    def begin(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        batches = getattr(engine.data_loader, "batch_sampler", None)
        if isinstance(batches, BatchSampler) and not isinstance(batches.sampler, Recorder):
            batches.sampler = Recorder(batches.sampler)  # plain tensors carry no names, and indices cost nothing

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"]
        if not torch.isfinite(loss):
            cases = self.cases(engine)
            raise UserError(
                f"epoch {engine.state.epoch}, iteration {engine.state.iteration}: the loss is {loss.item()}"
                f"{' on ' + ', '.join(cases) if cases else ''}, expected a finite number; weights up to the last epoch "
                "are kept. Look at these images, or lower learning_rate"
            )

    def cases(self, engine: Engine) -> list[str]:
        """Files of the current batch; none where the loader or the data set are of another kind."""
        batches, dataset = getattr(engine.data_loader, "batch_sampler", None), engine.data_loader.dataset
        if not isinstance(getattr(batches, "sampler", None), Recorder):
            return []
        first = (engine.state.iteration - 1) % engine.state.epoch_length * batches.batch_size
        drawn = batches.sampler.drawn[first : first + batches.batch_size]
        items = [dataset.data[index] for index in drawn] if hasattr(dataset, "data") else []
        return [str(item["image"]) for item in items if isinstance(item, dict) and "image" in item]


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

    def load_state_dict(self, state_dict: Mapping) -> None:
        """As saved; a run that was killed after its last epoch ends here instead of adding another."""
        super().load_state_dict(state_dict)
        if self.active and self.counter >= self.patience:
            self.trainer.terminate()

    def check(self, trainer: Engine) -> None:
        if self.active and self.evaluator.state.epoch == trainer.state.epoch:
            self(trainer)
