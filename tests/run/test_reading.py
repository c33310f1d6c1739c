"""Overrides that change nothing: of ids that the given files do not have, or that none of their runs reads."""

import json

import pytest
from conftest import BUNDLE
from helpers import refusal

from scripts.run.command_line import refuse_unread_ids, refuse_unused_ids
from scripts.run.reading import unread


def refused_for(files, words):
    """What is said of a command line, in both ways to write its files; None if nothing is."""
    paths = [str(BUNDLE / "configs" / name) for name in files]
    said = set()
    for line in (["--config_file", str(paths)], [f"--config_file={','.join(paths)}"]):
        try:
            refuse_unused_ids(["run", "training", *line, *words])
        except Exception as error:
            said.add(str(error))
    assert len(said) < 2
    return said.pop().replace(", ".join(paths), "FILES") if said else None


@pytest.mark.parametrize(
    "files, words",
    [
        (["train.json"], ["--levels", "3"]),
        (["train.json"], ["--tolerance_mm", "2"]),
        (["train.json"], ["--mirror_axes", "[0]"]),
        (["inference.json"], ["--run_id", "x", "--members", "[]"]),
    ],
)
def test_an_id_that_the_given_files_do_not_have_is_refused(files, words):
    said = refused_for(files, words)
    assert "nothing in FILES uses it; leave it out, or add to --config_file a file that has it (configs/" in said


@pytest.mark.parametrize(
    "files, words",
    [
        (["train.json", "strong.json"], ["--lr_decay", "0.9"]),
        (["train.json", "recipe_lgg_2d.json"], ["--features", "8"]),
        (["train.json", "recipe_lgg_2d.json"], ["--noise_std=0.5"]),
        (["train.json", "recipe_hipmri_2d.json"], ["--rotate_range", "0.1"]),
        (["train.json"], ["--overhang", "4"]),
        (["inference.json", "recipe_hippocampus.json"], ["--window_overlap", "0.7"]),
        (["inference.json", "recipe_hippocampus.json"], ["--learning_rate", "1"]),
        (["inference.json", "ensemble.json"], ["--ckpt_dir", "x"]),
        (["train.json", "evaluate.json", "fast.json"], ["--overhang", "4"]),
        (["train.json", "evaluate.json", "recipe_lgg_2d.json", "openvino.json"], ["--features", "8"]),
    ],
)
def test_an_id_that_no_run_reads_is_refused(files, words):
    said = refused_for(files, words)
    name = words[0].partition("=")[0]
    assert said == f"{name}: nothing that runs with FILES reads it, so it changes nothing; leave it out"


@pytest.mark.parametrize(
    "files, words",
    [
        (["train.json"], ["--network_def::levels", "3"]),
        (["train.json"], ["--train#trainer::max_epochs", "3", "--+random_chain", "[]"]),
        (["train.json"], ["--bundle_root", "x", "--dataset_dir", "x", "--output_dir", "x", "--ckpt_dir", "x"]),
        (["train.json", "recipe_hippocampus.json"], ["--levels", "3"]),
        (["train.json", "recipe_hippocampus.json"], ["--mirror_axes", "[0]", "--doubt_from", "shifts"]),  # calibrating
        (["train.json", "evaluate.json"], ["--tolerance_mm", "2", "--epochs=3", "--picture_interval=3"]),
        (["train.json", "evaluate.json", "recipe_lgg_2d.json"], ["--early_stop_patience", "3"]),
        (["train.json", "evaluate.json", "calibrate.json"], ["--worsened", "2"]),
        (["inference.json", "ensemble.json"], ["--members", "[]"]),
        (["inference.json"], ["--sliding_window", "True", "--window_overlap", "0.5"]),
        (["train.json"], ["--imports", "['$import os', '$import sys', '$import inspect', '$import math']"]),
    ],
)
def test_an_id_that_a_run_reads_passes(files, words):
    assert refused_for(files, words) is None


def test_an_id_that_a_given_value_refers_to_passes():
    network = f"%{BUNDLE / 'configs' / 'networks.json'}::resnext_unet"
    assert "reads it" in refused_for(["train.json"], ["--encoder_weights", "file.pt"])
    assert refused_for(["train.json"], ["--network_def", network, "--encoder_weights", "file.pt"]) is None
    network = "{'_target_': 'torch.nn.Flatten', 'start_dim': '@overhang'}"
    assert refused_for(["train.json"], ["--network_def", network, "--overhang", "1"]) is None


def test_an_entry_that_is_not_there_takes_one_line():
    files = [str(BUNDLE / "configs" / "train.json")]
    network = f"%{BUNDLE / 'configs' / 'networks.json'}::nosuch"
    said = refusal(refuse_unread_ids, ["space: network_def"], files, [network])
    assert said == f"{network}: found no such entry (query key: nosuch); correct its name"


def test_ids_of_an_args_file(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps({"lr_decay": 0.9}))
    words = ["--args_file", str(tmp_path / "f.json")]
    assert refused_for(["train.json"], words) is None
    assert refused_for(["train.json", "strong.json"], words).startswith("--lr_decay: ")


def test_a_space_names_itself():
    files = [str(BUNDLE / "configs" / name) for name in ("train.json", "strong.json")]
    said = refusal(refuse_unread_ids, ["space: learning_rate", "space: lr_decay"], files)
    assert said.startswith("space: lr_decay: nothing that runs with")


def test_parts_of_what_is_read_are_read(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"a": {"b": "@c::0"}, "c": [1, 2], "d": 3, "run": ["$print(@a::b)"]}))
    names = ["a", "a::b", "c", "c::0", "c::1", "d", "a::bc"]
    assert unread(names, [str(tmp_path / "c.json")], ["run"]) == ["c::1", "d", "a::bc"]
