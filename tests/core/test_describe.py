"""Objects as plain values: the same in every process, different where a setting differs."""

import functools
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import BUNDLE
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from monai.handlers import LrScheduleHandler
from monai.losses import DiceCELoss
from monai.transforms import Compose, RandFlipd, RandGaussianNoised, SaveImaged

from scripts.core.describe import describe, settings_text
from scripts.inference.fastest import FastestInferer

FRESH = """
import json, sys, torch
sys.path[:0] = {paths!r}
from test_describe import parts
from scripts.core.describe import describe
print(json.dumps(describe(parts())))
"""


class Thing:
    def __init__(self, **values):
        vars(self).update(values)


class Slotted:
    __slots__ = ("size",)

    def __init__(self, size):
        self.size = size


def scaled(by):
    return lambda x: x * by


def parts() -> dict:
    """One of everything that is hard to describe: lambdas, sets, random states, circles, tensors, engines."""
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2), torch.nn.Dropout(0.3))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step if step in {"a", "b", "c"} else 1)
    chain = Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image")])
    dataset = CacheDataset([{"image": "a.nii"}] * 3, chain, cache_rate=0.0, progress=False)
    engine = Engine(lambda *_: None)
    engine.network, engine.data_loader = network, DataLoader(dataset, batch_size=2)
    LrScheduleHandler(schedule, print_lr=False).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=3), Thing.__init__)
    circle = Thing(names=set("stuvwxyz"), of=scaled(3), rng=random.Random(), lock=np.random.RandomState())
    circle.itself = circle
    return {"network": network, "optimizer": optimizer, "schedule": schedule, "engine": engine, "circle": circle}


@pytest.mark.programs
def test_a_fresh_process_gives_the_same_description():
    """With other memory addresses and another order of sets: eight letters have the same one in few pairs of seeds."""
    made = {name: value for name, value in describe(parts()).items()}
    code = FRESH.format(paths=[str(BUNDLE), os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))])
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    fresh = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(fresh) == made
    assert "0x" not in json.dumps(made)


@pytest.mark.parametrize(
    "one, other",
    [
        (Thing(size=3), Thing(size=4)),
        (Thing(part=Thing(size=3)), Thing(part=Thing(size=4))),
        (Thing(part=[Thing(size=3)]), Thing(part=[Thing(size=4)])),
        (Thing(a=1), Thing(b=1)),
        (Slotted(3), Slotted(4)),
        ({"a": {1, 2}}, {"a": {1, 3}}),
        (scaled(2), scaled(3)),
        (lambda x: x * 2, lambda x: x + 2),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (functools.partial(max, key=abs), functools.partial(max, key=len)),
        (Thing(size=3).__init__, Thing(size=4).__init__),
        (torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)),
        (torch.nn.Conv3d(1, 2, 3), torch.nn.Conv3d(1, 2, 3, padding=1)),
        (torch.nn.ReLU(), torch.nn.PReLU()),
        (torch.ones(3), torch.zeros(3)),
        (torch.ones(3), torch.ones(3, dtype=torch.bfloat16)),
        (np.ones(3), np.zeros(3)),
        (DiceCELoss(weight=torch.ones(2)), DiceCELoss(weight=torch.zeros(2))),
        (torch.float32, torch.float16),
        (3, "3"),
        (float("inf"), float("nan")),
    ],
)
def test_another_setting_gives_another_description(one, other):
    assert settings_text(one) == settings_text(one) != settings_text(other)


@pytest.mark.parametrize("text", ["$lambda x: x[@channels]", "$lambda x: [x[n] for n in @channels]"])
def test_what_a_function_of_a_configuration_refers_to_counts(text):
    one, same, other = (
        ConfigParser({"channels": channels, "other": 5, "step": text}).get_parsed_content("step")
        for channels in ([0], [0], [1])
    )
    assert settings_text(one) == settings_text(same) != settings_text(other)


def trained_a_little(made: dict) -> None:
    made["network"](torch.rand(2, 1, 4, 4, 4)).sum().backward()
    made["optimizer"].step()
    made["network"].eval()


def test_weights_are_described_by_their_shapes_only():
    made, other = parts(), parts()
    before = describe(made)
    assert any(name.endswith("running_mean") for name in before)
    trained_a_little(made)
    assert describe(made) == before == describe(other)


def test_how_data_are_loaded_does_not_count():
    def loader(workers=0, cache_rate=0.0, **options):
        dataset = CacheDataset([torch.zeros(1)] * 4, Compose([]), cache_rate=cache_rate, progress=False)
        return DataLoader(dataset, num_workers=workers, **options)

    assert settings_text(loader()) == settings_text(loader(workers=2, cache_rate=0.5))
    for options in ({"batch_size": 2}, {"shuffle": True}, {"drop_last": True}):
        assert settings_text(loader()) != settings_text(loader(**options))


def test_folders_do_not_count(tmp_path):
    """However they are spelled, and where a folder of results has been moved to; what is written there does."""

    def saver(folder, postfix="seg"):
        return settings_text(SaveImaged("pred", output_dir=folder, output_postfix=postfix))

    assert saver("predictions") == saver(tmp_path) != saver(tmp_path, "other")

    def inferer(folder, enabled=False):
        return settings_text(FastestInferer(enabled, ckpt_dir=folder))

    assert inferer("models") == inferer(str(tmp_path)) != inferer("models", True)


def test_an_event_filter_counts_and_a_progress_bar_does_not():
    class ProgressBar:
        def __call__(self, engine):
            pass

    def engine(every, handler):
        made = Engine(lambda *_: None)
        made.add_event_handler(Events.EPOCH_COMPLETED(every=every), handler)
        return settings_text(made)

    handler = LrScheduleHandler(torch.optim.lr_scheduler.LRScheduler, print_lr=False)
    assert engine(2, handler) != engine(3, handler)
    assert engine(2, ProgressBar()) == engine(3, ProgressBar())
