"""Seeding by epoch, stopping on a bad loss, stopping early: on engines with one tiny layer."""

import random
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import refusal
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from torch.utils.data import RandomSampler

from scripts.training.handlers import Recorder, SeedEachEpoch, StopEarly, StopOnBadLoss, ValidateEpochs


def draws(seed, epochs=2, start=0, workers=0):
    """What every random source gives in each epoch."""
    chain = Compose([RandGaussianNoised(["image"], prob=1.0), RandFlipd(["image"], prob=0.5)])
    data = [{"image": torch.full((1, 2, 2, 2), float(i))} for i in range(4)]
    dataset = CacheDataset(data, chain, progress=False)
    loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=workers)
    drawn = defaultdict(list)

    def step(engine, batch):
        drawn[engine.state.epoch] += [batch["image"].sum().item()]
        drawn[engine.state.epoch] += [torch.rand(1).item(), float(np.random.rand()), random.random()]

    engine = Engine(step)
    engine.data_loader = loader
    SeedEachEpoch(seed).attach(engine)
    if start:
        engine.load_state_dict({"epoch": start, "epoch_length": len(loader), "max_epochs": epochs})
    engine.run(loader, max_epochs=epochs)
    return drawn


@pytest.mark.parametrize("workers", [0, 1])
def test_one_seed_and_epoch_give_one_stream(workers):
    torch.manual_seed(1)
    first = draws(seed=3, workers=workers)
    torch.manual_seed(2)
    np.random.seed(2)
    random.seed(2)
    assert draws(seed=3, workers=workers) == first


def test_a_resumed_run_draws_what_an_unbroken_one_would():
    whole, resumed = draws(seed=3, epochs=3), draws(seed=3, epochs=3, start=2)
    assert set(resumed) == {3} and resumed[3] == whole[3]


def test_other_seeds_and_epochs_give_other_streams():
    """None of the sources, image, torch, numpy and Python, repeats another stream's first values."""
    streams = [stream for seed in (0, 1, 2) for stream in draws(seed).values()]
    for source in range(4):
        assert len({stream[source] for stream in streams}) == len(streams) == 6


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.weight * x


def trainer(bad: float, at: int, accumulation: int = 1):
    """Four batches an epoch; the loss of batch `at` of each epoch (from 1) is `bad`."""
    data = [{"image": torch.tensor([1.0]), "label": torch.tensor([bad if i + 1 == at else 1.0])} for i in range(4)]
    network = Scaled()
    made = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader(data, batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=lambda pred, label: (pred * label).mean(),
        train_handlers=[StopOnBadLoss()],
        accumulation_steps=accumulation,
    )
    return made, network


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at, weight", [(1, 1.0), (3, 0.8)])
def test_a_bad_loss_ends_the_run_before_it_reaches_the_weights(bad, at, weight):
    made, network = trainer(bad, at)
    message = refusal(made.run)
    assert f"epoch 1, iteration {at}: the loss is {bad}" in message and "learning_rate" in message
    assert network.weight.item() == pytest.approx(weight)


@pytest.mark.parametrize("workers, batch_size", [(0, 1), (0, 2), (2, 2), (1, 3)])
@pytest.mark.parametrize("epoch", [1, 2])
def test_the_cases_of_the_bad_batch_are_named(epoch, batch_size, workers):
    """By the images that the step itself saw, shuffled, over several epochs, the last batch a small one."""
    data = [{"image": f"image{i}", "value": float(i)} for i in range(7)]
    loader = DataLoader(
        Dataset(data, lambda item: {"value": item["value"]}), batch_size=batch_size, shuffle=True, num_workers=workers
    )
    stop, found = StopOnBadLoss(), []

    def step(engine, batch):
        engine.state.output = {"loss": torch.tensor(0.0)}
        found.append((stop.cases(engine), [f"image{value:.0f}" for value in batch["value"].tolist()]))

    engine = Engine(step)
    engine.register_events(IterationEvents.LOSS_COMPLETED)
    engine.data_loader = loader
    stop.attach(engine)
    engine.load_state_dict({"epoch": epoch - 1, "epoch_length": len(loader), "max_epochs": epoch + 1})
    engine.run(loader, max_epochs=epoch + 1)
    assert len(found) == 2 * len(loader)
    assert all(named == seen for named, seen in found)
    assert sorted(sum((named for named, _ in found), [])) == sorted(2 * [item["image"] for item in data])


def test_a_bad_loss_without_known_cases_is_told_all_the_same():
    """A data set without a list of files, as in the tests above, names none."""
    made, _ = trainer(float("nan"), at=2)
    message = refusal(made.run)
    assert " on " not in message.split("expected")[0] and "iteration 2" in message


def test_recording_changes_nothing_of_what_is_drawn():
    torch.manual_seed(5)
    plain = list(RandomSampler(range(20)))
    torch.manual_seed(5)
    recorder = Recorder(RandomSampler(range(20)))
    assert list(recorder) == plain == recorder.drawn and len(recorder) == 20
    assert list(recorder) == recorder.drawn != plain  # the next epoch starts anew


def test_a_bad_loss_is_found_among_accumulated_ones():
    made, network = trainer(float("nan"), at=2, accumulation=4)
    assert "iteration 2" in refusal(made.run)
    assert network.weight.item() == 1.0


def test_a_finite_loss_goes_on():
    made, network = trainer(1e30, at=0)
    made.run()
    assert made.state.iteration == 8 and network.weight.item() == pytest.approx(0.2)


def stopped_after(scores, patience, earlier=None):
    """The epoch at which a run over `scores` (None: no validation) ends, and its handler."""
    engine, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)

    def validate():
        score = scores[engine.state.epoch - 1]
        if score is not None:
            evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {"dice": score}

    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    stop = StopEarly(patience, evaluator, "dice")
    stop.attach(engine)
    if earlier is not None:
        stop.load_state_dict(earlier)
    engine.run([0], max_epochs=len(scores))
    return engine.state.epoch, stop


@pytest.mark.parametrize(
    "scores, patience, end",
    [
        ([0.5, 0.4, 0.3, 0.9], 2, 3),
        ([0.5, 0.5, 0.9], 1, 2),  # as good is not better
        ([0.1, 0.2, 0.3, 0.4], 1, 4),
        ([0.5, 0.4, 0.6, 0.5, 0.4, 0.3], 2, 5),  # a better score starts the count anew
        ([0.5, None, None, 0.4, None, 0.3, None, 0.2], 2, 6),  # only validations count
        ([0.5, 0.4, 0.3, 0.2, 0.1], 0, 5),  # never
        ([None, None, None], 1, 3),
    ],
)
def test_stopping_early(scores, patience, end):
    assert stopped_after(scores, patience)[0] == end


def test_the_count_survives_a_resume():
    scores = [0.5, 0.4]
    end, stop = stopped_after(scores, patience=3)
    state = dict(stop.state_dict())
    assert end == 2 and (state["counter"], state["best_score"]) == (1, 0.5)
    assert stopped_after([0.45, 0.3, 0.2, 0.1], patience=3, earlier=state)[0] == 2
    assert stopped_after([0.45, 0.3, 0.2, 0.1], patience=3)[0] == 4
    assert stopped_after([0.6, 0.3, 0.2, 0.1], patience=3, earlier=state)[0] == 4


def test_a_run_that_had_stopped_early_does_not_start_again():
    """Killed after its last epoch was saved and before it ended."""
    scores = [0.5, 0.4, 0.3, 0.9]
    _, stop = stopped_after(scores, patience=2)
    state = dict(stop.state_dict())
    engine, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    again = StopEarly(2, evaluator, "dice")
    again.attach(engine)
    engine.add_event_handler(Events.STARTED, lambda: again.load_state_dict(state))
    epochs = []
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: epochs.append(engine.state.epoch))
    engine.run([0], max_epochs=4)
    assert epochs == []
    assert stopped_after([0.6, 0.4], patience=3, earlier=state)[0] == 2  # more patience, and it goes on


def validated(interval: int, epochs: int, stop_after: int | None = None, **options) -> list[int]:
    """The epochs after which a run validates."""
    found, engine = [], Engine(lambda *_: None)
    validate = ValidateEpochs(interval, **options)
    validate.validator = SimpleNamespace(run=found.append)
    if stop_after is not None:
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), engine.terminate)
    validate.attach(engine)
    engine.run([0, 0], max_epochs=epochs)
    return found


@pytest.mark.parametrize(
    "interval, epochs, expected",
    [(1, 3, [1, 2, 3]), (2, 1, [1]), (2, 4, [2, 4]), (2, 5, [2, 4, 5]), (5, 3, [3]), (3, 3, [3])],
)
def test_the_last_epoch_is_always_validated(interval, epochs, expected):
    assert validated(interval, epochs) == expected


def test_an_epoch_after_which_a_run_is_ended_is_validated():
    assert validated(4, 9, stop_after=6) == [4, 6]


def test_validation_by_iterations_is_as_in_monai():
    assert validated(3, 3, epoch_level=False) == [2, 3]  # after the iterations 3 and 6
    assert validated(2, 2, exec_at_start=True) == [0, 2]
