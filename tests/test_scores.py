"""The scores of a test set: a row a case, and a summary in which absent classes do not count."""

import csv
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai.data import MetaTensor
from monai.handlers import MeanDice, from_engine
from scripts.scores import CaseScores, table

NAMES = ["background", "body", "prostate"]
NAN = float("nan")
CASES = ["Case_004_Week0", "Case_004_Week1", "Case_012_Week3"]
SCORES = np.array([[0.99, 0.5, NAN], [0.98, 0.9, 0.25], [0.97, 0.7, 0.75]])


def line_of(lines, name):
    return next(line for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    "name, numbers, worst",
    [
        ("background", ["3", "0.9800", "0.0100", "0.9800"], "0.9700 Case_012_Week3"),
        ("body", ["3", "0.7000", "0.2000", "0.7000"], "0.5000 Case_004_Week0"),
        ("prostate", ["2", "0.5000", "0.3536", "0.5000"], "0.2500 Case_004_Week1"),
        ("mean foreground", ["3", "0.6000"], ""),
    ],
)
def test_table(name, numbers, worst):
    line = line_of(table(CASES, SCORES, NAMES), name)
    assert line.removeprefix(name).split() == [*numbers, *worst.split()]


def test_columns_stand_below_their_titles():
    lines = table(CASES, SCORES, NAMES)
    assert lines[0].split() == ["Dice", "n", "mean", "sd", "median", "worst"]
    for title in ("n", "mean", "sd", "median"):
        end = lines[0].index(f" {title} ") + len(title) + 1
        assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[1:4])
    assert len(lines) == 5


def test_a_class_that_no_case_has():
    lines = table(CASES, np.array([[1.0, 0.5, NAN]] * 3), NAMES)
    assert line_of(lines, "prostate").split()[1:] == ["0", "-", "-", "-", "absent", "from", "every", "case"]
    assert line_of(lines, "mean foreground").split()[-1] == "0.5000"


def test_one_case_has_no_spread():
    assert line_of(table(CASES[:1], SCORES[:1], NAMES), "body").split()[1:4] == ["1", "0.5000", "0.0000"]


@pytest.mark.filterwarnings("error")
def test_nothing_but_background():
    lines = table(CASES, np.array([[1.0, NAN, NAN]] * 3), NAMES)
    assert lines[-1].split()[-1] == "nan"


def evaluate(folder, cases, details=None):
    """A batch a case; the details of the metric are given, or those of MONAI's MeanDice."""

    def step(engine, case):
        name, pred, label = case
        return [{"pred": MetaTensor(pred, meta={"filename_or_obj": f"/data/{name}.nii.gz"}), "label": label}]

    engine = Engine(step)
    engine.state.metric_details = {"dice": torch.tensor(details)} if details is not None else {}
    if details is None:
        both = from_engine(["pred", "label"])
        MeanDice(num_classes=3, output_transform=both).attach(engine, "dice")
    CaseScores(str(folder), NAMES, "dice").attach(engine)
    engine.run(cases)
    with (folder / "test_dice.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_rows_are_sorted_and_gaps_stay_empty(tmp_path, caplog):
    order = [2, 0, 1]
    with caplog.at_level(logging.INFO):
        rows = evaluate(tmp_path / "new", [(CASES[i], torch.zeros(1), None) for i in order], SCORES[order].tolist())
    assert rows == [
        ["case", "patient", *NAMES],
        ["Case_004_Week0", "004", "0.9900", "0.5000", ""],
        ["Case_004_Week1", "004", "0.9800", "0.9000", "0.2500"],
        ["Case_012_Week3", "012", "0.9700", "0.7000", "0.7500"],
    ]
    lines = table(CASES, SCORES.astype(np.float32), NAMES)
    told = [record.getMessage() for record in caplog.records if record.name == "scripts.scores"]
    assert told == [*lines, f"scores of every case: {tmp_path / 'new' / 'test_dice.csv'}"]


def test_dice_of_known_maps(tmp_path):
    """MONAI's own metric gives the details: half of the body found; the prostate absent, though predicted once."""
    truth = torch.zeros(1, 4, 4, 4)
    truth[:, 1:3] = 1
    half, extra = truth.clone(), truth.clone()
    half[:, 2] = 0
    extra[0, 0, 0, 0] = 2
    rows = evaluate(tmp_path, [("a", half, truth), ("b", extra, truth)])
    assert rows[1] == ["a", "a", f"{64 / 80:.4f}", f"{2 / 3:.4f}", ""]
    assert rows[2][3:] == ["1.0000", ""]


def test_a_second_run_starts_anew(tmp_path):
    engine = Engine(lambda _, name: [{"pred": SimpleNamespace(meta={"filename_or_obj": name})}])
    CaseScores(str(tmp_path), NAMES, "dice").attach(engine)
    for _ in range(2):
        engine.state.metric_details = {"dice": torch.ones(1, 3)}
        engine.run(["a.nii"])
    assert len((tmp_path / "test_dice.csv").read_text().splitlines()) == 2
