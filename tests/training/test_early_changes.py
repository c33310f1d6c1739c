"""Random changes that the last epochs do without."""

import pytest
import torch
from ignite.engine import Engine
from monai.transforms import Compose, RandShiftIntensityd
from torch.utils.data import DataLoader, Dataset

from scripts.training.early_changes import EarlyChanges


class Zeros(Dataset):
    """Images of zeros, changed at random."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.transform({"image": torch.zeros(1, 2, 2, 2)})


def changed(share: float, epochs: int, workers: int = 0, first: int = 1) -> list[bool]:
    """Whether images were changed, by epoch.

    Args:
        share: of the epochs in which they should be.
        epochs: of the training.
        workers: processes that load images.
        first: epoch that the training begins with, as one that is resumed does.
    """
    early = EarlyChanges([RandShiftIntensityd("image", offsets=(1.0, 2.0), prob=1.0)], share)
    found: dict[int, list[bool]] = {}
    trainer = Engine(lambda engine, batch: found.setdefault(engine.state.epoch, []).append(bool(batch["image"].any())))
    early.attach(trainer)
    trainer.load_state_dict({"epoch": first - 1, "max_epochs": epochs, "epoch_length": 3})
    trainer.run(DataLoader(Zeros(Compose([early])), num_workers=workers), max_epochs=epochs)
    assert all(len(set(epoch)) == 1 and len(epoch) == 3 for epoch in found.values())
    return [epoch[0] for epoch in found.values()]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_last_epochs_do_without(workers):
    assert changed(0.5, 4, workers) == [True, True, False, False]


def test_none_and_all():
    assert changed(0.0, 2) == [False, False] and changed(1.0, 2) == [True, True]


def test_a_resumed_training_does_the_same():
    assert changed(0.5, 4, first=2) == [True, False, False]


def test_a_share_of_more_than_all_is_refused():
    with pytest.raises(ValueError, match="share is 1.5, expected a number from 0 to 1"):
        EarlyChanges([], 1.5)
