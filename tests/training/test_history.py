"""The record of a run: columns, values, gaps, the picture, and a resumed history."""

import logging
import math

import pytest
import torch
from helpers import rows
from ignite.engine import Engine, Events
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from scripts.core.palette import colour
from scripts.training.history import History, dice_text, draw_progress, duration_text

CLASSES = ["background", "body", "prostate"]
COLUMNS = (
    ["epoch", "seconds", "learning_rate", "train_loss"]
    + ["train_mean_dice", "train_dice_background", "train_dice_body", "train_dice_prostate"]
    + ["val_mean_dice", "val_dice_background", "val_dice_body", "val_dice_prostate"]
)
NAN = math.nan


def metrics(side, mean, *classes):
    return {f"{side}_mean_dice": mean, **{f"{side}_dice_{n}": v for n, v in zip(CLASSES, classes, strict=True)}}


def run(folder, epochs, validated=(1, 2, 3, 4), state=None, stopped_after=None):
    """Two batches per epoch, with losses 2 * epoch and 3 * epoch; the rate halves after each."""
    trainer, evaluator = Engine(step), Engine(lambda *_: None)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    def close_epoch():
        epoch = trainer.state.epoch
        trainer.state.metrics = metrics("train", 0.25, 1.0, 0.123456, NAN)
        if epoch in validated:
            evaluator.state.epoch = epoch
            evaluator.state.metrics = metrics("val", torch.tensor(0.5 + epoch / 100), 1.0, NAN, 0.5)
        optimizer.param_groups[0]["lr"] /= 2
        if epoch == stopped_after:
            trainer.terminate()

    trainer.add_event_handler(Events.EPOCH_COMPLETED, close_epoch)
    history = History(folder, optimizer, evaluator, CLASSES)
    history.attach(trainer)
    if state is not None:  # as a resumed run does it: when it has started
        trainer.add_event_handler(Events.STARTED, lambda: history.load_state_dict(state))
        trainer.load_state_dict({"epoch": len(state["rows"]), "epoch_length": 2, "max_epochs": epochs})
    trainer.run([2.0, 3.0], max_epochs=epochs)
    return history


def step(engine, batch):
    loss = batch * engine.state.epoch
    return [{"loss": loss}, {"loss": loss}]  # decollated: one entry per case, each with the loss of the batch


def test_columns_and_values(tmp_path):
    run(tmp_path, 2)
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    first, second = rows(tmp_path / "history.csv")
    assert 0 <= float(first.pop("seconds")) < 60
    given = ["1", "0.1", "2.5", "0.25", "1.0", "0.1235", "", "0.51", "1.0", "", "0.5"]
    assert list(first.values()) == given
    assert [second[key] for key in ("epoch", "learning_rate", "train_loss", "val_mean_dice")] == [
        "2",
        "0.05",
        "5.0",
        "0.52",
    ]


def test_epochs_without_a_validation_have_gaps(tmp_path):
    run(tmp_path, 3, validated=(2,))
    assert [row["val_mean_dice"] for row in rows(tmp_path / "history.csv")] == ["", "0.52", ""]
    assert [row["train_mean_dice"] for row in rows(tmp_path / "history.csv")] == ["0.25"] * 3


@pytest.mark.parametrize("stopped_after, drawn", [(None, [1, 5, 9, 13, 17, 20]), (10, [1, 5, 9, 10])])
def test_the_picture_costs_a_twentieth_of_the_time(stopped_after, drawn, monkeypatch, tmp_path):
    """By a clock on which an epoch takes five seconds and the picture one."""
    clock, pictures = [0], []

    def draw(rows, *_):
        pictures.append(len(rows))
        clock[0] += 1

    def write(_):
        clock[0] += 5

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("scripts.training.history.draw_progress", draw)
    monkeypatch.setattr(History, "write", write)
    run(tmp_path, 20, validated=(), stopped_after=stopped_after)
    assert pictures == drawn


def test_files(tmp_path):
    run(tmp_path / "new" / "folder", 1)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["history.csv", "progress.png"]


def test_the_log_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "scripts.training.history"):
        run(tmp_path, 2, validated=(2,))
    lines = [message for message in caplog.messages if message.startswith("epoch")]
    assert lines[0].startswith("epoch 1/2: loss 2.5000, Dice training 0.250 validation - (body - prostate -), ")
    assert lines[1].startswith("epoch 2/2: loss 5.0000, Dice training 0.250 validation 0.520 (body - prostate 0.500), ")
    assert lines[1].endswith("0 min 0 s left")


def test_a_pause_does_not_count_in_the_time_that_is_left(tmp_path, caplog):
    history = run(tmp_path, 4)
    for row, seconds in zip(history.rows, (10.0, 2000.0, 12.0, 14.0)):
        row["seconds"] = seconds
    with caplog.at_level(logging.INFO, "scripts.training.history"):
        history.log(history.rows[-1], 14)
    assert caplog.messages[-1].endswith("2 min 0 s left")


def test_state_round_trip(tmp_path):
    state = run(tmp_path / "a", 2).state_dict()
    torch.save(state, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    run(tmp_path / "b", 4, state=state)
    assert [row["epoch"] for row in rows(tmp_path / "b" / "history.csv")] == ["1", "2", "3", "4"]
    assert rows(tmp_path / "b" / "history.csv")[:2] == rows(tmp_path / "a" / "history.csv")


def test_a_resumed_run_goes_on_in_its_own_files(tmp_path):
    state = run(tmp_path, 2).state_dict()
    run(tmp_path, 3, state=state)
    assert len(rows(tmp_path / "history.csv")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "progress.png"]


def test_a_new_run_moves_the_old_record_aside(tmp_path):
    run(tmp_path, 2)
    before = (tmp_path / "history.csv").read_bytes()
    run(tmp_path, 1)
    assert (tmp_path / "history.1.csv").read_bytes() == before and len(rows(tmp_path / "history.csv")) == 1
    names = ["history.1.csv", "history.csv", "progress.1.png", "progress.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_resumed_run_leaves_the_record_of_another_one(tmp_path):
    """Its own is in another folder."""
    other, own = tmp_path / "other", tmp_path / "own"
    run(other, 2)
    before = (other / "history.csv").read_bytes()
    state = run(own, 1).state_dict()
    state["rows"][0]["seconds"] = 7.0
    run(other, 3, state=state)
    assert (other / "history.1.csv").read_bytes() == before
    assert rows(other / "history.csv")[0]["seconds"] == "7.0"


def test_the_validation_before_the_first_epoch_is_epoch_0(tmp_path, caplog):
    """The record of an earlier run is moved aside all the same; the time that is left follows from real epochs."""
    caplog.set_level(logging.INFO)
    run(tmp_path, 1)
    trainer, evaluator = Engine(step), Engine(lambda *_: None)
    evaluator.state.metrics = metrics("val", 0.625, 1.0, NAN, 0.5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    history = History(tmp_path, optimizer, evaluator, CLASSES)
    trainer.add_event_handler(Events.STARTED, history.add_start)
    history.attach(trainer)
    trainer.run([2.0, 3.0], max_epochs=1)
    start, first = rows(tmp_path / "history.csv")
    assert (start["epoch"], start["val_mean_dice"], start["val_dice_body"]) == ("0", "0.625", "")
    assert start["train_loss"] == start["learning_rate"] == "" and first["epoch"] == "1"
    assert (tmp_path / "history.1.csv").is_file() and (tmp_path / "progress.png").is_file()
    assert "before epoch 1: Dice validation 0.625 (body - prostate 0.500), the score to beat" in caplog.messages


@pytest.mark.parametrize("epochs", [1, 3, 30])
def test_the_picture(epochs, tmp_path):
    made = [{"epoch": n, "learning_rate": 0.1 / n, "train_loss": 1 / n} for n in range(1, epochs + 1)]
    for row in made:
        row |= {column: None if row["epoch"] % 2 else 0.5 for column in COLUMNS[4:]}
    draw_progress(made, CLASSES, tmp_path / "progress.png")
    picture = imread(tmp_path / "progress.png")
    height, width = picture.shape[:2]
    assert width > 1000 and height > 300
    for panel in range(3):  # each of the three panels shows something
        third = picture[:, panel * width // 3 : (panel + 1) * width // 3, :3]
        assert (third.min(axis=2) < 0.5).mean() > 0.002
    assert [path.name for path in tmp_path.iterdir()] == ["progress.png"]


def test_the_picture_shows_the_numbers(tmp_path):
    pictures = []
    for value in (0.2, 0.8):
        made = [
            {"epoch": n, "learning_rate": 0.1, "train_loss": 1.0, **dict.fromkeys(COLUMNS[4:], value)}
            for n in (1, 2, 3)
        ]
        draw_progress(made, CLASSES, tmp_path / "progress.png")
        pictures.append(imread(tmp_path / "progress.png"))
    lines = to_rgb(colour(2))  # as the overlays have it
    colours = [abs(picture[..., :3] - lines).max(axis=2) < 0.1 for picture in pictures]
    low, high = (mask.nonzero()[0].min() for mask in colours)
    assert low - high > 0.3 * pictures[0].shape[0]  # in units of the picture's height


def test_the_legend_of_the_picture_hides_no_line(tmp_path, monkeypatch):
    """Also where a class has a long name, which leaves the three panels their width."""
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *given, **how: [drawn.append(figure), save(figure, *given, **how)]
    )
    classes = ["background", "bones", "a" * 80]
    values = {f"{side}_dice_{name}": 0.1 for side in ("train", "val") for name in classes}
    draw_progress([{"epoch": 1, "learning_rate": 0.1, "train_loss": 1.0, **values}], classes, tmp_path / "progress.png")
    (figure,) = drawn
    panels = [axis.get_window_extent() for axis in figure.axes]
    legend = figure.axes[1].get_legend().get_window_extent()
    assert panels[1].x1 < legend.x0 and legend.x1 < panels[2].x0
    assert all(panel.width > 0.2 * figure.bbox.width for panel in panels)


def test_the_picture_takes_any_name_of_a_class(tmp_path):
    classes = ["background", "dose_$50_$"]
    values = {f"{side}_dice_{name}": 0.5 for side in ("train", "val") for name in classes}
    draw_progress([{"epoch": 1, "learning_rate": 0.1, "train_loss": 1.0, **values}], classes, tmp_path / "progress.png")
    assert imread(tmp_path / "progress.png").shape[1] > 1000


@pytest.mark.parametrize(
    "seconds, shown", [(0, "0 min 0 s"), (61.9, "1 min 1 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min")]
)
def test_duration(seconds, shown):
    assert duration_text(seconds) == shown


def test_text():
    assert (dice_text(None), dice_text(0.12345)) == ("-", "0.123")
