"""The history of a training run: one row per epoch, as a log line, in a CSV file and in a picture.

`train.json` attaches it to the trainer; checkpoints contain its rows.
"""

import csv
import logging
import math
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from statistics import mean, median

import ignite.distributed as idist
from ignite.engine import Engine, Events
from matplotlib import rc_context
from matplotlib.figure import Figure

from scripts.core.files import atomic_write, rename_previous, write_csv
from scripts.core.palette import colour
from scripts.core.processes import is_main_process

logger = logging.getLogger(__name__)

HISTORY = "history.csv"
SPARING = 20  # times as long as the picture takes pass before it is drawn again, so that it costs 5 % at most
LONGEST = 28  # characters of a name in the picture
PAUSED = 3  # times the usual duration: in such an epoch the computer slept, or did something else


class History:
    """Collects loss, learning rate and the Dice of every class after each epoch; writes `history.csv`.

    It also draws `progress.png`, after an epoch if that is cheap enough, and at the end of the training.

    Args:
        output_dir: folder of both files.
        optimizer: the learning rate that it has at the start of the epoch is recorded.
        evaluator: validation engine. The columns of validation are empty for an epoch without one.
        class_names: names for the columns `train_dice_<name>` and `val_dice_<name>`.
    """

    def __init__(self, output_dir, optimizer, evaluator, class_names):
        self.dir = Path(output_dir)
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.classes = list(class_names)
        self.columns = ["epoch", "seconds", "learning_rate", "train_loss"]
        for side in ("train", "val"):
            self.columns += [f"{side}_mean_dice", *(f"{side}_dice_{name}" for name in self.classes)]
        self.rows: list[dict] = []
        self.drawn, self.due = 0, -math.inf  # rows in the picture, and the time from which it may be drawn again

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = state["rows"]

    def attach(self, trainer: Engine) -> None:
        # not at STARTED: a checkpoint may restore the rows then
        trainer.add_event_handler(Events.EPOCH_STARTED, self.begin)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.add_loss)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        trainer.add_event_handler(Events.COMPLETED, self.draw_rest)

    def begin(self) -> None:
        if is_main_process() and not self.is_own(self.dir / HISTORY):
            for name in (HISTORY, "progress.png"):
                rename_previous(self.dir / name)

    def is_own(self, file: Path) -> bool:
        """Whether a file has the epochs of this run: by the first one."""
        if not self.rows or not file.is_file():
            return False
        with file.open(newline="", encoding="utf-8") as stream:
            _, first = [*islice(csv.reader(stream), 2), [], []][:2]
        return first == ["" if value is None else str(value) for value in map(self.rows[0].get, self.columns)]

    def begin_epoch(self) -> None:
        self.started = time.perf_counter()
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.losses: list = []

    def add_loss(self, trainer: Engine) -> None:
        """Keeps the loss of a batch on its device until the epoch ends."""
        self.losses.append(trainer.state.output[0]["loss"])

    def add_start(self) -> None:
        """Adds the validation of the weights that the training starts from, as epoch 0."""
        self.begin()
        row = {"epoch": 0, "seconds": 0.0, "learning_rate": None, "train_loss": None}
        self.add(row, self.evaluator.state.metrics)
        if is_main_process():
            logger.info(f"before epoch 1: Dice validation {self.validation_text(row)}, the score to beat")

    def end_epoch(self, trainer: Engine) -> None:
        loss = idist.all_reduce(float(sum(self.losses)) / len(self.losses)) / idist.get_world_size()
        metrics = dict(trainer.state.metrics)
        if self.evaluator.state.epoch == trainer.state.epoch:
            metrics |= self.evaluator.state.metrics
        row = {
            "epoch": trainer.state.epoch,
            "seconds": round(time.perf_counter() - self.started, 2),
            "learning_rate": self.rate,
            "train_loss": round(loss, 6),
        }
        self.add(row, metrics)
        if is_main_process():
            self.log(row, trainer.state.max_epochs)

    def add(self, row: dict, metrics: Mapping) -> None:
        """Completes a row with the metrics that there are, and writes the files anew."""
        for name in self.columns[len(row) :]:
            value = float(metrics.get(name, math.nan))
            row[name] = None if math.isnan(value) else round(value, 4)
        self.rows.append(row)
        if is_main_process():
            self.write()
            if time.perf_counter() >= self.due:
                self.draw()

    def draw(self) -> None:
        began = time.perf_counter()
        draw_progress(self.rows, self.classes, self.dir / "progress.png")
        ended = time.perf_counter()
        self.drawn, self.due = len(self.rows), ended + SPARING * (ended - began)

    def draw_rest(self) -> None:
        """The last epochs, which were not worth a picture each."""
        if 0 < self.drawn < len(self.rows):
            self.draw()

    def log(self, row: dict, epochs: int) -> None:
        recent = [r["seconds"] for r in self.rows[-5:] if r["epoch"] > 0]
        usual = [seconds for seconds in recent if seconds <= PAUSED * median(recent)]
        left = (epochs - row["epoch"]) * mean(usual)
        logger.info(
            f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.4f}, "
            f"Dice training {dice_text(row['train_mean_dice'])} validation {self.validation_text(row)}, "
            f"{row['seconds']:.1f} s, {duration_text(left)} left"
        )

    def validation_text(self, row: dict) -> str:
        dice = " ".join(f"{name} {dice_text(row[f'val_dice_{name}'])}" for name in self.classes[1:])
        return f"{dice_text(row['val_mean_dice'])} ({dice})"

    def write(self) -> None:
        rows = ([row.get(name) for name in self.columns] for row in self.rows)
        write_csv([self.columns, *rows], self.dir / HISTORY)


@rc_context({"text.parse_math": False})  # the name of a class may hold a dollar
def draw_progress(rows: list[dict], classes: list[str], file: Path) -> None:
    """Draws loss, Dice of every foreground class (training dashed, validation solid) and learning rate by epoch."""
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    loss_axis, dice_axis, rate_axis = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 20 else None
    loss_axis.plot(epochs, [row["train_loss"] for row in rows], color="black", marker=marker, markersize=3)
    loss_axis.set_title("training loss")
    for value, name in enumerate(classes[1:], start=1):
        for side, style, size in (("train", "--", 0), ("val", "-", 3 if marker else 0)):
            known = [
                (row["epoch"], row[f"{side}_dice_{name}"]) for row in rows if row[f"{side}_dice_{name}"] is not None
            ]
            label = (name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…") if side == "val" else None
            xs, ys = zip(*known) if known else ((), ())
            dice_axis.plot(xs, ys, style, color=colour(value), label=label, marker="o", markersize=size)
    dice_axis.set(title="Dice: validation solid, training dashed", ylim=(0, 1))
    dice_axis.legend(loc="lower left", bbox_to_anchor=(1, 0), fontsize="small")  # beside the lines, not over them
    rate_axis.plot(epochs, [row["learning_rate"] for row in rows], color="black", marker=marker, markersize=3)
    rate_axis.set(title="learning rate", ylim=(0, None))
    for axis in (loss_axis, dice_axis, rate_axis):
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    with atomic_write(file) as partial:
        figure.savefig(partial, dpi=80, format="png")


def dice_text(value: float | None) -> str:
    """Returns a Dice with three decimals, or a dash if there is none."""
    return "-" if value is None else f"{value:.3f}"


def duration_text(seconds: float) -> str:
    """Returns a duration in hours and minutes, or in minutes and seconds if it is below an hour."""
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"
