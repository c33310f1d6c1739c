"""The space of a study: how a value reaches its run."""

import json

import fire
import pytest
from monai.bundle import ConfigParser, update_kwargs

from scripts.study.space import as_argument

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
