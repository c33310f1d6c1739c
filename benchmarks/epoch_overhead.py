"""Time of an epoch: ratio of the shipped trainer with all its handlers to a plain PyTorch loop of the same work.

The plain loop also runs on one prepared batch: the difference is the cost of preparing the data.

    python benchmarks/epoch_overhead.py [--size 64 64 32] [--features 16] [--batches 8] [--repeats 5]

Both train and validate on the same cached cases, with the same network, loss, optimiser and Dice metrics. Epochs
alternate in one process, so that a busy machine slows both equally; the first of each is not counted. Ratios are
medians over neighbouring epochs, by the clock and in processor time, which does not count the work of other programs.
"""

import argparse
import copy
import statistics

import torch
from common import now, since, training
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import decollate_batch
from monai.metrics import DiceMetric


def bare_epoch(network, optimizer, loss_function, schedule, loaders, post, classes) -> tuple[float, float]:
    """Seconds of one epoch: train, validate, and the Dice metrics that the configuration asks for."""
    began = now()
    for training_now, loader in zip((True, False), loaders):
        metrics = [
            DiceMetric(include_background=False, num_classes=classes),
            DiceMetric(reduction="mean_batch", num_classes=classes),
        ]
        network.train(training_now)
        for batch in loader:
            with torch.set_grad_enabled(training_now):
                pred = network(batch["image"])
                if training_now:
                    optimizer.zero_grad()
                    loss = loss_function(pred, batch["label"])
                    loss.backward()
                    optimizer.step()
                    loss.item()
            items = [post(item) for item in decollate_batch({"pred": pred.detach(), "label": batch["label"]})]
            for metric in metrics:
                metric([item["pred"] for item in items], [item["label"] for item in items])
        for metric in metrics:
            metric.aggregate()
    schedule.step()
    return since(began)


def bare_parts(made: ConfigWorkflow) -> tuple:
    """The arguments of `bare_epoch`: those of the configuration, with its own network, optimiser and schedule."""
    get = made.parser.get_parsed_content
    network = copy.deepcopy(get("network_def"))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.985)
    loaders = (get("train::dataloader"), get("validate::dataloader"))
    return network, optimizer, get("loss"), schedule, loaders, get("train::postprocessing"), len(get("class_names"))


def without_data(network, optimizer, loss_function, schedule, loaders, post, classes) -> tuple:
    """The same parts, with one prepared batch in place of the loader."""
    ready = [[next(iter(loader))] * len(loader) for loader in loaders]
    return network, optimizer, loss_function, schedule, ready, post, classes


def alternate(made: ConfigWorkflow, loops: dict[str, tuple]) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the epochs of the shipped trainer, and of an epoch of each plain loop after every one of these."""
    trainer = made.parser.get_parsed_content("train::trainer")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("trainer", *loops)}
    clock = {"began": now()}

    def stop_the_clock_and_run_the_others() -> None:
        times["trainer"].append(since(clock["began"]))
        for name, parts in loops.items():
            times[name].append(bare_epoch(*parts))
        clock["began"] = now()

    def attach_last() -> None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, stop_the_clock_and_run_the_others)
        clock["began"] = now()

    trainer.add_event_handler(Events.STARTED, attach_last)
    made.run()
    return times


def show(times: dict[str, list[tuple[float, float]]], ratios: dict[str, tuple[str, str]]) -> None:
    """Prints the medians of all epochs except the first and of the ratios of neighbouring epochs, with titles."""
    for i, kind in enumerate(("clock", "processor")):
        taken = {name: [epoch[i] for epoch in epochs[1:]] for name, epochs in times.items()}
        shown = [f"{name} {statistics.median(values):.2f} s" for name, values in taken.items()]
        print(f"{kind:<10} medians: {', '.join(shown)}")
        for title, (above, below) in ratios.items():
            found = sorted(a / b for a, b in zip(taken[above], taken[below]))
            print(f"{'':<10} {title}: {statistics.median(found):.3f} ({found[0]:.3f} to {found[-1]:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=[64, 64, 32])
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--batches", type=int, default=8, help="training batches of two an epoch")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    overrides = {"spatial_size": given.size, "features": given.features, "num_workers": 0, "show_progress": False}
    overrides |= {"epochs": given.repeats + 1, "validation_share": 0.01, "test_share": 0}
    with training(["train.json"], 2 * given.batches + 1, 1, tuple(given.size), **overrides) as made:
        fixed = bare_parts(made)
        times = alternate(made, {"bare": fixed, "dummy": without_data(*fixed)})
    print(f"epoch of {given.batches} batches of 2 at {given.size}, {given.features} features, {given.repeats} repeats")
    show(times, {"trainer over bare loop": ("trainer", "bare"), "data over no data": ("bare", "dummy")})


if __name__ == "__main__":
    main()
