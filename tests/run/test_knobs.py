"""Types and ranges of the knobs at the top of the configurations."""

import json
import math

import jsonschema
import pytest
import torch
from conftest import CONFIGS, workflow
from helpers import refusal

from scripts.run.command_line import NO_PATCHES
from scripts.run.knobs import (
    SCHEMA,
    check,
    check_class_names,
    check_configuration,
    check_dimensions,
    check_pieces,
    fits,
    in_words,
    rules,
)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("epochs", 2.5), ("epochs", 0), ("epochs", -1), ("epochs", "3"), ("epochs", None), ("epochs", True),
        ("batch_size", 0), ("seed", -1), ("seed", 2**32), ("flip_axis", 3), ("fold", -1), ("num_workers", -1),
        ("learning_rate", -0.1), ("learning_rate", "1e-3"), ("learning_rate", float("nan")),
        ("learning_rate", float("inf")), ("lr_decay", 0), ("lr_decay", 1.1), ("dropout", 1), ("dropout", -0.1),
        ("test_share", 1), ("cache_rate", 1.5), ("window_overlap", 1.0), ("tolerance_mm", -1), ("rotate_range", 4),
        ("resume", 1), ("resume", "yes"), ("keep_largest", None), ("pictures", 0),
        ("spatial_size", 64), ("spatial_size", [64]), ("spatial_size", [64, 64, 0]), ("spatial_size", [64, 64, 3.5]),
        ("class_names", "background"), ("class_names", ["background"]), ("class_names", []), ("class_names", 3),
        ("class_names", ["background", "body", "body"]), ("class_names", ["background", 1]), ("class_names", None),
        ("warmup", 1), ("averaging_rate", 0),
        ("contrast_range", [0.7]), ("contrast_range", [0, 1]),
        ("window_size", [8]), ("levels", 2), ("slice_axes", "PS"),
        ("widths", [32]), ("widths", 32), ("norm", 3), ("split", None), ("members", "a.pt"), ("anonymise", 1.5),
        ("mirror_axes", 0), ("mirror_axes", [3]), ("mirror_axes", [0, 0]), ("mirror_axes", [True]),
        ("mirror_axes", None),
        ("device", "gpu7"), ("device", "cuda:99"), ("device", "cpu:x"), ("device", None), ("device", [0]),
    ],
)  # fmt: skip
def test_what_can_not_be_meant(name, wrong):
    message = refusal(check, {name: wrong})
    assert message.startswith(f"{name} is {wrong!r}: expected") and f"--{name}" in message


@pytest.mark.parametrize(
    "name, right",
    [
        ("epochs", 1), ("seed", 0), ("fold", None), ("fold", 0), ("learning_rate", 0), ("lr_decay", 1), ("dropout", 0),
        ("dropout", 0.99), ("test_share", 0), ("flip_axis", 2), ("num_workers", 0), ("spatial_size", [32, 32]),
        ("spatial_size", (32, 48, 16)), ("resume", True), ("some_other", "anything"),
        ("class_names", ["background", "body"]), ("mirror_axes", []), ("norm", None), ("norm", "batch"),
        ("norm", ["group", {"num_groups": 8}]), ("slice_axes", "PSL"), ("contrast_range", (0.7, 1.5)),
        ("anonymise", "word"), ("mirror_axes", (0, 2)),
        ("device", "cpu"), ("device", torch.device("cpu")),
    ],
)  # fmt: skip
def test_what_can(name, right):
    check({name: right})


def test_keeping_the_largest_pieces_of_no_class_is_refused():
    names = ["background", "kidney", "tumour"]
    check_pieces({"keep_largest": True, "single_piece": ["kidney", "prostate"], "class_names": names})
    check_pieces({"keep_largest": False, "single_piece": ["prostate"], "class_names": names})
    message = refusal(check_pieces, {"keep_largest": True, "single_piece": ["prostate"], "class_names": names})
    assert "['prostate'], has none of the classes ['background', 'kidney', 'tumour']" in message
    assert message.count("--single_piece") == 1


def test_a_size_has_as_many_numbers_as_the_network_has_axes():
    check_dimensions({"spatial_size": [32, 32], "window_size": [48, 48], "spatial_dims": 2})
    check_dimensions({"spatial_size": (64, 64, 32), "spatial_dims": 3, "window_size": None})
    message = refusal(check_dimensions, {"spatial_size": [32, 32], "spatial_dims": 3})
    assert message.startswith("spatial_size is [32, 32]: expected 3 numbers")


def test_limits_are_named_in_full():
    assert "from 0 to 4294967295;" in refusal(check, {"seed": -1})
    assert "from 0 to 3.1416;" in refusal(check, {"rotate_range": 4})
    assert "above 0 to 1;" in refusal(check, {"lr_decay": 0}) and "to below 1;" in refusal(check, {"dropout": 1})


def test_class_names_may_be_a_tuple():
    assert check_class_names(("background", "body")) == ["background", "body"]


def test_lists_are_described_in_words():
    message = refusal(check, {"spatial_size": [64, 64, 0]})
    assert "expected a list of 2 to 3 whole numbers from 1;" in message and '--spatial_size "[128,128,64]"' in message
    assert "a list of 2 or more different texts" in refusal(check, {"class_names": ["background"]})
    assert "a list of different values out of 0, 1, 2" in refusal(check, {"mirror_axes": [3]})
    assert "a list of 2 numbers above 0" in refusal(check, {"contrast_range": [1]})


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    0.5,
    1.5,
    2**33,
    math.pi,
    "",
    "PSL",
    "text",
    "auto",
    "warn",
    [],
    [0],
    [1, 2],
    [0, 0],
    [3, 3, 3],
]
VALUES += [[0.5, 1.5], [0.5, 1.0], [0.5, 0.0], ["a"], ["nifti"], ["a", "b"], ["a", "a"], [1, 2, 3, 4], {}]


@pytest.mark.parametrize("name", sorted(rules()))
def test_another_reader_of_the_schema_agrees(name):
    """The verdicts are those of the package jsonschema; a device is checked by the machine it names."""
    validator = jsonschema.Draft202012Validator(rules()[name])
    wanted = [validator.is_valid(value) for value in VALUES]
    if rules()[name].get("format") != "device":
        assert [fits(value, rules()[name]) for value in VALUES] == wanted
        assert any(wanted) and in_words(rules()[name])


def test_the_schema_is_one_and_every_knob_has_a_meaning():
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, rule in schema["properties"].items():
        assert rule["group"] in schema["groups"] and rule["description"].endswith("."), name
        fits_examples = [fits(value, rule) for value in rule.get("examples", [])]
        assert all(fits_examples) and rule.get("type", rule.get("format")), name


def plain(value) -> bool:
    """Whether a value of a configuration is a number, a text, a switch, nothing, or a list of such."""
    if isinstance(value, list):
        return all(map(plain, value))
    return not isinstance(value, dict) and not str(value).startswith(("$", "@", "%"))


NO_KNOBS = {"imports", "initialize", "training", "evaluating", "inference", "run", "finalize"}  # what a run executes
NO_KNOBS |= {"more_handlers", "averaging", "sampler", "early_changes"}  # empty places for components
NO_KNOBS |= {"chain_keys"}  # what differs between two copies of a chain


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.json")), ids=lambda file: file.name)
def test_every_value_of_a_configuration_has_a_rule_and_keeps_it(file):
    """A knob that is added to a configuration wants an entry in knobs.schema.json."""
    if file.name in NO_PATCHES:
        pytest.skip("holds no knobs")
    content = json.loads(file.read_text())
    names = {name for name, value in content.items() if plain(value) and "::" not in name and name[0] != "_"}
    assert names - NO_KNOBS <= rules().keys()
    check({name: content[name] for name in names})


def test_every_rule_is_of_a_knob():
    contents = [json.loads(file.read_text()) for file in CONFIGS.glob("*.json") if file.name not in NO_PATCHES]
    assert rules().keys() <= {name for content in contents for name in content}


@pytest.mark.parametrize(
    "kind, files, wrong",
    [
        ("train", ["train.json"], {"epochs": 2.5}),
        ("train", ["train.json", "strong.json"], {"warmup": 2}),
        ("train", ["train.json", "recipe_hippocampus.json"], {"levels": 2}),
        ("evaluate", ["train.json", "evaluate.json"], {"tolerance_mm": -1}),
        ("infer", ["inference.json", "ensemble.json"], {"members": "a.pt"}),
    ],
)
def test_a_run_checks_every_knob_of_its_configuration(kind, files, wrong, tmp_path):
    """Also those that a patch brings along; nothing is built before."""
    made = workflow(kind, files, dataset_dir=tmp_path, output_dir=tmp_path / "out", **wrong)
    made.initialize()
    ((name, value),) = wrong.items()
    assert refusal(made.run).startswith(f"{name} is {value!r}: expected")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "kind, files, given, said",
    [
        (
            "infer",
            ["inference.json", "recipe_lgg_2d.json"],
            {"class_names": ["background", "a", "b"]},
            "out_channels is 1",
        ),
        ("infer", ["inference.json"], {"out_channels": 1, "class_names": ["background", "a"]}, "out_channels is 1"),
        ("infer", ["inference.json", "recipe_lgg_2d.json"], {"out_channels": 2}, "out_channels is 2"),
    ],
)
def test_settings_that_do_not_fit_together_are_one_line(kind, files, given, said, tmp_path):
    made = workflow(kind, files, base={}, dataset_dir=tmp_path, output_dir=tmp_path / "out", **given)
    made.initialize()
    assert refusal(made.run).startswith(said)
    assert not (tmp_path / "out").exists()


def test_fine_tuning_without_weights_is_warned_of(caplog, tmp_path):
    """Not refused: another program may load them by a handler of its own."""
    made = workflow("train", ["train.json", "finetune.json"], dataset_dir=tmp_path / "none", output_dir=tmp_path)
    made.initialize()
    made.parser.get_parsed_content("knobs")
    assert "name them with --pretrained FILE" in caplog.text


def test_windows_of_a_recipe_are_not_asked_for_in_another_way(tmp_path):
    made = workflow(
        "infer", ["inference.json", "recipe_hippocampus.json"], sliding_window=True, output_dir=tmp_path / "out"
    )
    made.initialize()
    assert refusal(made.run).startswith("sliding_window is True, but the recipe's plain_inferer says")


def test_expressions_are_checked_by_their_value(tmp_path):
    made = workflow("infer", ["inference.json"], window_overlap="$2 / 2", output_dir=tmp_path / "out")
    made.initialize()
    assert refusal(made.run).startswith("window_overlap is 1.0: expected a number from 0 to below 1")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"flip_axs": 1}, "flip_axs: nothing in the configuration uses this id; did you mean flip_axis?"),
        (
            {"network_deff": {"_target_": "torch.nn.Identity"}},
            "network_deff: nothing in the configuration uses this id",
        ),
    ],
)
def test_a_misspelled_id_of_a_patch_is_rejected(given, message, tmp_path):
    """MONAI would ignore it, and train with the other value to the end."""
    made = workflow("train", ["train.json"], dataset_dir=tmp_path, output_dir=tmp_path / "out", **given)
    made.initialize()
    assert refusal(made.run).startswith(message)


def test_an_id_of_ones_own_is_taken_where_something_uses_it(tmp_path):
    own = {"epoch": 3, "epochs": "@epoch", "my_own_note": "nothing looks like it"}
    paths = {"dataset_dir": tmp_path / "none", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    made = workflow("train", ["train.json"], **paths, **own)
    made.initialize()
    assert "dataset_dir does not exist" in refusal(made.run)


@pytest.mark.parametrize("flags, refused", [({}, True), ({"avx512_bf16": True}, False)])
def test_half_precision_is_refused_on_a_processor_that_has_none(flags, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    paths = {"dataset_dir": tmp_path / "none", "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    given = {**paths, "device": "cpu"}
    made = workflow("train", ["train.json"], half=True, **given)
    made.initialize()
    said = refusal(made.run)
    assert ("half is True: this processor has no instructions for bfloat16" in said) == refused
    made = workflow("train", ["train.json"], **given)
    made.initialize()
    assert "dataset_dir does not exist" in refusal(made.run)


def test_it_wants_a_configuration():
    with pytest.raises(RuntimeError, match="no configuration"):
        check_configuration()
