"""The space of a study: how many values an id has, and how one reaches its run."""

import json

import fire
import pytest
from helpers import refusal
from monai.bundle import ConfigParser, update_kwargs

from scripts.study import chart
from scripts.study.space import Knob, as_argument, parse_space, plan_runs

BATCH = {"norm": "batch", "network_def": {"norm": "@norm"}}


@pytest.mark.parametrize("value", [None, "None", "$None", [1, None], {"a": None, "b": [None]}, "instance"])
@pytest.mark.parametrize("name, used", [("norm", "network_def::norm"), ("network_def::norm", "network_def::norm")])
def test_a_run_and_its_overrides_give_the_network_the_same_value(name, used, value, tmp_path):
    trained = ConfigParser(json.loads(json.dumps(BATCH)))
    trained.update(update_kwargs({}, **{name: fire.parser.DefaultParseValue(as_argument(value))}))
    for file, content in (("train.json", BATCH), ("overrides.json", {name: value})):
        (tmp_path / file).write_text(json.dumps(content))
    evaluated = ConfigParser()
    evaluated.read_config([str(tmp_path / "train.json"), str(tmp_path / "overrides.json")])
    expected = None if value == "$None" else value
    assert trained.get_parsed_content(used) == evaluated.get_parsed_content(used) == expected


@pytest.mark.parametrize(
    "spec, count",
    [
        (["a", None], 2),
        ({"low": 0, "high": 4}, 5),
        ({"low": 1, "high": 9, "step": 3}, 3),
        ({"low": 0.1, "high": 0.7, "step": 0.1}, 7),
        ({"low": 2, "high": 9, "log": True}, 8),
        ({"low": 0.0, "high": 1.0}, None),
        ({"low": 0.1, "high": 1.0, "log": True}, None),
    ],
)
def test_values_are_counted(spec, count):
    (knob,) = parse_space({"a": spec})
    assert knob.count == count and (count is None or len(knob.grid()) == count)


def test_a_large_range_is_counted_and_never_listed(monkeypatch):
    def grid(_):
        raise AssertionError("2147483648 values")

    monkeypatch.setattr(Knob, "grid", grid)
    whole = {"low": 0, "high": 2147483647}
    assert not chart.has_few_values(parse_space({"seed": whole})[0])
    stepped = parse_space({"seed": {**whole, "step": 1}, "flip_axis": [0, 1]})
    assert "4294967296 points" in refusal(plan_runs, stepped, "grid", None, 0)


@pytest.mark.parametrize("step", [0, 0.0, -1])
def test_a_step_is_above_zero(step):
    assert "step > 0" in refusal(parse_space, {"a": {"low": 0, "high": 4, "step": step}})
