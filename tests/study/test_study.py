"""Studies: the space, the queue that survives its process, the arguments of each run, the table and the picture."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fire
import numpy as np
import optuna
import pytest
from conftest import BUNDLE, CONFIGS, EVALUATE, run
from helpers import refusal, rows
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from scripts.core.errors import Stopped, UserError
from scripts.data.names import case_name
from scripts.study import chart, one_run, trials
from scripts.study import table as study_table
from scripts.study.command import main as begin_study
from scripts.study.space import as_argument, parse_space, plan_runs

pytestmark = pytest.mark.programs

TRAIN = str(CONFIGS / "train.json")
draw = chart.draw_chart
GRID = {"learning_rate": [0.001, 0.0003], "flip_axis": [0, 1]}


@pytest.fixture
def begin(phantoms, tmp_path, monkeypatch):
    """Starts a study with fast fake runs; `calls` has the arguments of each."""
    calls: list[dict] = []

    def execute(command, folder, environment, started):
        given = dict(
            zip((name.lstrip("-") for name in command[5::2]), map(fire.parser.DefaultParseValue, command[6::2]))
        )
        calls.append({**given, "folder": folder.name, "environment": environment})
        if given["learning_rate"] > 1:
            (folder / "errors.log").write_text("a warning\nlearning_rate is too large\n")
            return 1
        lines = "".join(f"{epoch},1.5,{value}\n" for epoch, value in ((1, ""), (2, given["learning_rate"]), (3, 0)))
        (folder / "history.csv").write_text("epoch,seconds,val_mean_dice\n" + lines)
        return 0

    def main(**given):
        defaults = {"space": GRID, "output_dir": str(tmp_path / "s"), "config_file": TRAIN, "learning_rate": 0.5}
        given = {**defaults, "dataset_dir": str(phantoms), **given}
        if "learning_rate" in given["space"]:
            del given["learning_rate"]
        begin_study(**given)

    monkeypatch.setattr(one_run, "execute", execute)
    monkeypatch.setattr(trials, "TAKEN_S", 0)
    monkeypatch.setattr(chart, "draw_chart", lambda *_: None)  # half a second each
    main.calls, main.folder, main.execute = calls, tmp_path / "s", execute
    return main


# the space


@pytest.mark.parametrize(
    "space, words",
    [
        (None, "expected values by id"),
        ({}, "expected values by id"),
        ("nothing", "expected values by id"),
        ({"epochs": 3}, "a list of values"),
        ({"epochs": []}, "a list of values"),
        ({"epochs": [1, 2, 1.0]}, "twice"),
        ({"dropout": [float("nan")]}, "finite"),
        ({"dropout": {"low": 0.0}}, "low and high"),
        ({"dropout": {"low": 0, "high": 1, "steps": 3}}, "steps"),
        ({"dropout": {"low": 1, "high": 0}}, "low below high"),
        ({"dropout": {"low": "a", "high": 1}}, "numbers"),
        ({"learning_rate": {"low": 0.0, "high": 0.1, "log": True}}, "the range of learning_rate"),
        ({"learning_rate": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}, "the range of learning_rate"),
        ({"output_dir": ["a", "b"]}, "is a path"),
        ({"datalist": ["a"]}, "is a path"),
        ({"test_share": [0.1]}, "decides the splits"),
        ({"by_slice": [True, False]}, "decides the splits"),
    ],
)
def test_what_is_no_space(space, words):
    assert words in refusal(parse_space, space)


def test_a_space_from_a_file(tmp_path):
    (tmp_path / "space.json").write_text(json.dumps(GRID))
    assert parse_space(str(tmp_path / "space.json")) == parse_space(GRID)
    (tmp_path / "space.json").write_text("{")
    assert "not readable as JSON" in refusal(parse_space, str(tmp_path / "space.json"))


def test_a_grid_has_every_point_once():
    knobs = parse_space({"widths": [[16, 32], [32, 64]], "dropout": {"low": 0.1, "high": 0.3, "step": 0.1}})
    points = plan_runs(knobs, "grid", None, 0)
    assert {(p["widths"], p["dropout"]) for p in points} == {
        (w, d) for w in ("[16, 32]", "[32, 64]") for d in (0.1, 0.2, 0.3)
    }
    assert len(points) == 6 and plan_runs(knobs, "grid", 4, 0) == points[:4]
    assert "without a step" in refusal(plan_runs, parse_space({"dropout": {"low": 0.0, "high": 1.0}}), "grid", None, 0)
    assert "10100 points" in refusal(
        plan_runs, parse_space({"a": {"low": 0, "high": 10099, "step": 1}}), "grid", None, 0
    )


def test_a_random_search_begins_alike_and_stays_in_its_ranges():
    knobs = parse_space(
        {"a": {"low": 1e-4, "high": 1.0, "log": True}, "b": {"low": 2, "high": 6, "step": 2}, "c": ["x", None]}
    )
    points = plan_runs(knobs, "random", 60, 3)
    assert plan_runs(knobs, "random", 20, 3) == points[:20] != plan_runs(knobs, "random", 20, 4)
    assert {p["b"] for p in points} == {2, 4, 6} and {p["c"] for p in points} == {"x", None}
    values = np.array([p["a"] for p in points])
    assert values.min() >= 1e-4 and values.max() <= 1 and 15 < (values < 0.01).sum() < 45  # the middle of its logarithm


@pytest.mark.parametrize(
    "value", [1, -1, 0.0003, True, "relu", "1e-3", "None", "a,b", "-x", "it's", [1, [2]], {"_target_": "a.B"}, ""]
)
def test_what_is_typed_is_what_was_meant(value):
    found = fire.parser.DefaultParseValue(as_argument(value))
    assert found == value and type(found) is type(value)


# the runs


def test_a_grid_from_begin_to_end(begin, capsys, monkeypatch):
    monkeypatch.setattr(chart, "draw_chart", draw)
    begin(epochs=3)
    table = rows(begin.folder / "study.csv")
    assert list(table[0]) == ["number", *GRID, "score", "epochs_run", "seconds", "state", "reason"]
    assert [row["number"] for row in table] == ["0", "1", "2", "3"]
    points = {(float(row["learning_rate"]), int(row["flip_axis"])) for row in table}
    assert points == {(rate, axis) for rate in GRID["learning_rate"] for axis in GRID["flip_axis"]}
    assert all(
        row["score"] == row["learning_rate"] and row["state"] == "complete" for row in table
    )  # the best, not the last
    assert all((row["epochs_run"], row["seconds"]) == ("3", "4.5") for row in table)
    out = capsys.readouterr().out
    scores = [float(line.split()[3]) for line in out.splitlines() if re.match(r"\s+\d ", line)]
    assert scores == [0.001, 0.001, 0.0003, 0.0003] and "Research use only" in out
    assert imread(begin.folder / "study.png").shape[1] > 800


def test_what_a_run_is_given(begin):
    begin(space={"network_def::dropout": [0.1], "dropout": [0.2]}, epochs=3, spatial_size=[32, 32, 16])
    (call,) = begin.calls
    own = begin.folder / "run_000"
    assert (call["output_dir"], call["ckpt_dir"]) == (str(own), str(own / "models"))
    assert (call["network_def::dropout"], call["dropout"], call["epochs"], call["spatial_size"]) == (
        0.1,
        0.2,
        3,
        [32, 32, 16],
    )
    assert call["config_file"] == [TRAIN] and call["datalist"] == str(begin.folder / "datalist.json")
    assert "resume" not in call and json.loads((own / "overrides.json").read_text())["dropout"] == 0.2


def test_all_runs_share_one_datalist(begin):
    begin(space={"seed": [3, 4], "learning_rate": [0.1]})
    assert len({call["datalist"] for call in begin.calls}) == 1 and len(begin.calls) == 2
    listed = json.loads((begin.folder / "datalist.json").read_text())
    assert len(listed["training"]) and len(listed["validation"]) and len(listed["test"])


def test_folds_may_be_a_range(begin):
    fold = {"low": 0, "high": 2, "step": 1}
    begin(space={"fold": fold, "learning_rate": [0.1]}, folds=3)
    assert sorted(call["fold"] for call in begin.calls) == [0, 1, 2]


def test_every_validation_is_reported(begin):
    begin(space={"learning_rate": [0.25]})
    (trial,) = optuna.load_study(study_name=None, storage=f"sqlite:///{begin.folder / 'study.db'}").trials
    assert trial.intermediate_values == {2: 0.25, 3: 0.0} and trial.value == 0.25


def test_a_run_that_fails_ends_nothing(begin, capsys):
    said = f"1 of 3 runs failed; see the reasons in {begin.folder / 'study.csv'}; --retry_failed True runs them again"
    assert refusal(begin, space={"learning_rate": [0.5, 7, 0.25]}) == said
    assert f"best: {begin.folder}" in capsys.readouterr().out
    table = {row["learning_rate"]: row for row in rows(begin.folder / "study.csv")}
    assert table["7"]["state"] == "failed" and table["7"]["reason"] == "learning_rate is too large"
    assert [table[rate]["state"] for rate in ("0.5", "0.25")] == ["complete"] * 2
    assert refusal(begin, space={"learning_rate": [0.5, 7, 0.25]}) == said
    assert len(begin.calls) == 3
    assert refusal(begin, space={"learning_rate": [0.5, 7, 0.25]}, retry_failed=True) == said
    assert len(begin.calls) == 4 and begin.calls[-1]["learning_rate"] == 7 and begin.calls[-1]["resume"] is True
    assert "1 of 1 runs failed" in refusal(begin, space={"learning_rate": [7]}, output_dir=str(begin.folder / "b"))


def test_more_trials_are_added(begin):
    space = {"learning_rate": {"low": 0.0, "high": 1.0}}
    begin(space=space, search="random", trials=2)
    first = rows(begin.folder / "study.csv")
    begin(space=space, search="random", trials=5)
    table = rows(begin.folder / "study.csv")
    assert len(begin.calls) == len(table) == 5 and table[:2] == first
    assert len({row["learning_rate"] for row in table}) == 5


@pytest.mark.parametrize("storage", [None, "journal"])
def test_tpe_goes_on_with_other_points(storage, begin, tmp_path):
    options = {"space": {"learning_rate": {"low": 0.0, "high": 1.0}}, "search": "tpe", "parallel": 2}
    if storage:
        options["storage"] = str(tmp_path / "study.journal")
    begin(**options, trials=3)
    begin(**options, trials=6)
    rates = {row["learning_rate"] for row in rows(begin.folder / "study.csv")}
    assert len(begin.calls) == len(rates) == 6 and (begin.folder / "study.db").exists() == (storage is None)


def test_the_search_seed_counts_where_several_run_at_once(begin, tmp_path):
    drawn = []
    for place, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(place)
        options = {"space": {"learning_rate": {"low": 0.0, "high": 1.0}}, "output_dir": str(folder), "parallel": 2}
        begin(**options, search="tpe", trials=3, search_seed=seed)
        drawn.append([row["learning_rate"] for row in rows(folder / "study.csv")])
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_at_once_each_with_its_share(begin, monkeypatch):
    both = threading.Barrier(2, timeout=300)

    def execute(*given):
        both.wait()  # passes only where two are at work
        return begin.execute(*given)

    monkeypatch.setattr(one_run, "execute", execute)
    monkeypatch.setattr(one_run, "core_count", lambda: 8)
    begin(parallel=2)
    assert sorted(call["folder"] for call in begin.calls) == [f"run_{n:03d}" for n in range(4)]
    assert {call["environment"]["OMP_NUM_THREADS"] for call in begin.calls} == {"4"}


def test_no_run_is_taken_twice(begin):
    begin(space={"learning_rate": [n / 100 for n in range(24)]}, parallel=8)
    assert sorted(call["folder"] for call in begin.calls) == [f"run_{n:03d}" for n in range(24)]
    assert {row["state"] for row in rows(begin.folder / "study.csv")} == {"complete"}


@pytest.mark.parametrize("visible, expected", [(None, ["0", "1", "0"]), ("5,7", ["5", "7", "5"])])
def test_a_gpu_for_each_slot(visible, expected, monkeypatch):
    monkeypatch.setattr(one_run.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible) if visible else monkeypatch.delenv(
        "CUDA_VISIBLE_DEVICES", False
    )
    runs = one_run.RunLauncher([TRAIN], {}, parallel=3)
    assert [runs.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == expected


@pytest.mark.parametrize(
    "written, errors, status, reason",
    [
        ("RuntimeError: x; Net: given size 3", "a warning\n", 1, "RuntimeError: x; Net: given size 3"),
        ("b is wrong", "w\n", -9, "ended by SIGKILL: out of memory?"),
        (None, "a\nb:  was wrong\n\n", 1, "b: was wrong"),
        (None, "", 3, "ended by status 3"),
    ],
)
def test_the_reason(written, errors, status, reason, tmp_path):
    (tmp_path / "errors.log").write_text(errors)
    if written:
        (tmp_path / "error.json").write_text(json.dumps({"reason": written}))
    assert one_run.failure_reason(tmp_path, status) == reason


def test_the_reason_of_an_earlier_attempt_does_not_count(begin):
    (begin.folder / "run_000").mkdir(parents=True)
    (begin.folder / "run_000" / "error.json").write_text('{"reason": "an old one"}')
    with pytest.raises(UserError, match="1 of 1 runs failed"):
        begin(space={"learning_rate": [2.0]})
    assert begin.calls[0]["environment"]["RUN_ERROR_FILE"] == str(begin.folder / "run_000" / "error.json")
    assert rows(begin.folder / "study.csv")[0]["reason"] == "learning_rate is too large"


def test_a_run_without_a_validation_has_no_score(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,seconds,val_mean_dice\n1,2.0,\n")
    with pytest.raises(one_run.RunFailedError, match="expected one after the last epoch"):
        one_run.read_result(tmp_path)


def test_the_weights_that_a_run_started_from_are_no_epoch_but_have_a_score(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,seconds,val_mean_dice\n0,0.0,0.75\n1,2.0,0.5\n")
    found = one_run.read_result(tmp_path)
    assert (found["epochs"], found["score"], found["points"]) == (1, 0.75, [(0, 0.75), (1, 0.5)])


# killed, stopped, continued with other settings


def test_a_study_that_was_killed_goes_on(begin, monkeypatch):
    """A real SIGKILL, in the second of four runs."""

    def execute(command, folder, environment, started):
        if folder.name == "run_001":
            (begin.folder / "hanging").touch()
            time.sleep(600)
        return begin.execute(command, folder, environment, started)

    child = os.fork()
    if not child:
        monkeypatch.setattr(one_run, "execute", execute)
        begin()
        os._exit(0)
    try:
        deadline = time.monotonic() + 600
        while not (begin.folder / "hanging").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    before = {row["number"]: row["state"] for row in rows(begin.folder / "study.csv")}
    assert before["0"] == "complete" and not begin.calls
    begin()
    given = {call["folder"]: call.get("resume") for call in begin.calls}
    assert given == {"run_001": True, "run_002": None, "run_003": None}
    table = rows(begin.folder / "study.csv")
    assert [row["state"] for row in table] == ["complete"] * 4
    assert len({(row["learning_rate"], row["flip_axis"]) for row in table}) == 4


def test_a_run_that_outlived_its_study_is_waited_for(begin, monkeypatch):
    """The run still holds its own lock; no other run starts in its folder before it has ended."""
    monkeypatch.setattr(one_run, "execute", lambda *_: 128 + signal.SIGTERM)
    assert "were stopped" in refusal(begin)
    lock = one_run.FileLock(begin.folder / "run_000" / one_run.RUN_LOCK, thread_local=False)
    lock.acquire()
    freed = []
    timer = threading.Timer(1.5, lambda: (freed.append(time.monotonic()), lock.release()))
    timer.start()

    def execute(*given):
        assert freed
        return begin.execute(*given)

    monkeypatch.setattr(one_run, "execute", execute)
    begin()
    assert {call["folder"] for call in begin.calls} == {f"run_{n:03d}" for n in range(4)}


def test_sigterm_leaves_what_can_be_gone_on_with(begin, monkeypatch, capsys):
    def execute(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return 128 + signal.SIGTERM

    monkeypatch.setattr(one_run, "execute", execute)
    with pytest.raises(Stopped) as caught:
        begin()
    assert caught.value.code == 143 and "the same command continues" in capsys.readouterr().err
    states = [row["state"] for row in rows(begin.folder / "study.csv")]
    assert states == ["stopped", "waiting", "waiting", "waiting"]
    monkeypatch.setattr(one_run, "execute", begin.execute)
    begin()
    assert {row["state"] for row in rows(begin.folder / "study.csv")} == {"complete"} and len(begin.calls) == 4


@pytest.mark.parametrize("parallel", [1, 2])
def test_an_error_of_the_study_itself_is_not_swallowed(parallel, begin, monkeypatch):
    def execute(*_):
        raise OSError("no room")

    monkeypatch.setattr(one_run, "execute", execute)
    with pytest.raises(OSError, match="no room"):
        begin(parallel=parallel)


@pytest.mark.parametrize(
    "other, words",
    [
        ({"space": {"learning_rate": [0.001, 0.0003]}}, "space"),
        ({"epochs": 9}, '{"epochs": 9}'),
        ({"search": "random", "trials": 4}, "search"),
        ({"storage": "other.journal"}, "storage"),
        ({"config_file": [TRAIN, str(CONFIGS / "demo.json")]}, "config_file"),
    ],
)
def test_another_study_in_its_folder_is_refused(other, words, begin):
    begin(epochs=3)
    message = refusal(begin, **{"epochs": 3, **other})
    assert "of another study" in message and words in message and "--output_dir" in message


def test_workers_and_the_place_of_the_data_may_change(begin, phantoms):
    begin(trials=2)
    begin(num_workers=0, dataset_dir=str(phantoms / "."), device="cpu")
    assert len(begin.calls) == 4


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"space": {"learning_rat": [1]}}, "did you mean --learning_rate?"),
        ({"epoch": 3}, "did you mean --epochs?"),
        ({"levels": 3}, "--levels: nothing in"),
        ({"space": {"activation": ["relu"]}}, "space: activation: nothing in"),
        ({"space": {"network_def::features": [4]}, "network_def": "%x.json::unet_32"}, "replaces all of network_def"),
        ({"space": {}}, "expected values by id"),
        ({"trials": 0}, "trials is 0"),
        ({"parallel": 0}, "parallel is 0"),
        ({"parallel": "2x"}, "parallel is '2x'"),
        ({"search": "all"}, "grid, random, tpe"),
        ({"search": "random"}, "--trials"),
        ({"config_file": "none.json"}, "none.json: no such configuration file"),
        ({"ckpt_dir": "x"}, "--ckpt_dir"),
        ({"flip_axis": 1}, "is also in the space"),
        ({"output_dir": None}, "output_dir"),
        ({"dataset_dir": "nowhere"}, "nowhere"),
        ({"validation_share": 0}, "datalist.json: found no validation cases"),
        ({"storage": "nosuch://x"}, "storage"),
    ],
)
def test_what_is_refused(wrong, words, begin):
    assert words in refusal(begin, **wrong)
    assert not begin.calls
    if wrong.get("output_dir", "s") and begin.folder.exists():  # where nothing is left, nothing is in the way
        begin(trials=1)  # the corrected command
        assert len(begin.calls) == 1


def test_a_datalist_without_validation_is_refused_and_kept(begin, tmp_path):
    begin(trials=1)
    listed = json.loads((begin.folder / "datalist.json").read_text())
    own = tmp_path / "own.json"
    own.write_text(json.dumps({**listed, "validation": []}))
    assert "own.json: found no validation cases" in refusal(begin, datalist=str(own), output_dir=str(tmp_path / "t"))
    assert own.is_file() and len(begin.calls) == 1


def test_a_configuration_that_cannot_be_read(begin, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    assert "not readable" in refusal(begin, config_file=[TRAIN, str(tmp_path / "broken.json")])


# the table and the picture


def made(space, count, failed=()):
    knobs = parse_space(space)
    found = []
    for number, point in enumerate(plan_runs(knobs, "random", count, 0)):
        score = None if number in failed else 0.5 + 0.01 * number
        state = "complete" if score else "failed"
        extra = {"epochs_run": 3, "seconds": 4.5, "state": state, "reason": None if score else "too large"}
        found.append({"number": number, **point, "score": score, **extra})
    return found, knobs


def share(picture, colour):
    return (abs(picture[..., :3] - to_rgb(colour)).max(axis=2) < 0.05).sum()


def test_a_drawn_value_lies_at_its_place_on_the_list(tmp_path):
    """Three steps of 0.1 are 0.30000000000000004, on the list 0.3."""
    rows, knobs = made({"dropout": {"low": 0.1, "high": 0.5, "step": 0.1}}, 4)
    for row, value in zip(rows, (0.1, 0.1 + 0.1, 0.1 + 0.2, 0.5)):
        row["dropout"] = value
    chart.draw_chart(rows, knobs, tmp_path / "study.png", "s")
    assert (tmp_path / "study.png").is_file()


def test_the_picture_shows_what_failed(tmp_path):
    for name, failed in (("none", ()), ("some", (1, 4))):
        chart.draw_chart(*made({"dropout": [0.1, 0.2]}, 8, failed), tmp_path / f"{name}.png", "s")
    none, some = (imread(tmp_path / f"{name}.png") for name in ("none", "some"))
    assert share(none, chart.FAILED["color"]) == 0 < share(some, chart.FAILED["color"])
    assert share(none, chart.BEST["color"]) > 0 < share(some, chart.BEST["color"])


@pytest.mark.parametrize("count, failed", [(0, ()), (1, ()), (1, (0,)), (30, (3, 4))])
def test_the_picture_of_any_space(count, failed, tmp_path):
    space = {
        "learning_rate": {"low": 1e-5, "high": 0.1, "log": True},
        "features": {"low": 8, "high": 32, "step": 8},
        "epochs": {"low": 1, "high": 1000},
        "dropout": {"low": 0.0, "high": 0.5},
        "widths": [[16, 32, 64], [16, 32, 64, 128, 256, 512]],
        "network_def": ["%configs/networks.json::unet_32", "%configs/networks.json::unet_64"],
        "norm": ["batch", ["group", {"num_groups": 8}], None],
        "batch_size": [4, 2, 1],
        "cost": ["$x$", "_y_"],
    }
    chart.draw_chart(*made(space, count, failed), tmp_path / "study.png", "s")
    assert min(imread(tmp_path / "study.png").shape[:2]) > 900


def test_labels_are_short_and_differ():
    assert chart.value_labels(["%a.json::unet", "%a.json::segnet"]) == ["unet", "segnet"]
    assert chart.value_labels(["%a::net", "%b::net"]) == ["%a::net", "%b::net"]
    assert chart.value_labels([None, 0.0003]) == ["None", "0.0003"]


def test_the_table_is_sorted_and_tells_why(tmp_path):
    found, knobs = made({"widths": [[16, 32], [32, 64]], "norm": [None, "batch"]}, 4, (2,))
    lines = study_table.table_text(found, knobs).splitlines()
    assert [line.split()[0] for line in lines] == ["run", "3", "1", "0", "2"] and lines[-1].endswith(
        "failed: too large"
    )
    study_table.write_table(found, knobs, tmp_path / "t.csv")
    table = rows(tmp_path / "t.csv")
    assert {row["norm"] for row in table} <= {"None", "batch"} and json.loads(table[0]["widths"])[0] in (16, 32)


# real runs


def command(phantoms, folder, space, *more):
    tiny = ["--spatial_size", "[32,32,16]", "--features", "4", "--num_workers", "0", "--cache_workers", "1"]
    tiny += ["--calibrate", "False"]
    words = ["--space", repr(space), "--output_dir", str(folder), "--dataset_dir", str(phantoms), *tiny, *more]
    return [sys.executable, "-m", "scripts.study", *words]


def test_real_runs(phantoms, tmp_path):
    """One run that trains and one that is refused, in parallel; then the test cases of the one that was chosen."""
    words = command(phantoms, tmp_path / "s", {"flip_axis": [0, 7]}, "--epochs", "1", "--parallel", "2")
    done = subprocess.run(words, cwd=BUNDLE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and done.stderr.startswith("1 of 2 runs failed"), done.stderr
    good, bad = sorted(rows(tmp_path / "s" / "study.csv"), key=lambda row: row["flip_axis"])
    assert good["state"] == "complete" and 0 < float(good["score"]) < 1 and good["epochs_run"] == "1"
    assert bad["state"] == "failed" and bad["reason"].startswith("flip_axis is 7: expected a whole number")
    written = json.loads((tmp_path / "s" / f"run_00{bad['number']}" / "error.json").read_text())
    assert written == {"reason": bad["reason"]}
    chosen = tmp_path / "s" / f"run_00{good['number']}"
    places = {"ckpt_dir": chosen / "models", "output_dir": tmp_path / "chosen"}
    run("evaluate", [*EVALUATE, str(chosen / "overrides.json")], base={}, **places)
    scored = json.loads((tmp_path / "chosen" / "metrics.json").read_text())["metric_per_case"]
    listed = json.loads((tmp_path / "s" / "datalist.json").read_text())["test"]
    assert {case["case"] for case in scored} == {case_name(Path(item["image"])) for item in listed}


@pytest.mark.slow
def test_a_killed_study_of_real_runs_resumes_them(phantoms, tmp_path):
    """The study is killed and its runs live on; the same command completes all four without repeating epochs."""
    space = {"learning_rate": [0.001, 0.0003], "dropout": [0.0, 0.3]}
    words = command(phantoms, tmp_path / "s", space, "--epochs", "30", "--parallel", "2")
    first = subprocess.Popen(words, cwd=BUNDLE, stdout=subprocess.DEVNULL)
    logs = [tmp_path / "s" / f"run_00{n}" / "history.csv" for n in (0, 1)]
    deadline = time.monotonic() + 600
    while not all(log.is_file() and len(rows(log)) > 1 for log in logs) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.kill()
    first.wait()
    done = subprocess.run(words, cwd=BUNDLE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("outlived") == 2
    table = rows(tmp_path / "s" / "study.csv")
    assert [(row["state"], row["epochs_run"]) for row in table] == [("complete", "30")] * 4
    for log in logs:
        assert [int(row["epoch"]) for row in rows(log)] == list(range(1, 31))
        assert "resumed from" in (log.parent / "training.log").read_text()
