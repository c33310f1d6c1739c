"""The script on brain tumours: its commands, equal time for all networks and losses, its tables."""

import importlib
import json
import math
import shlex
import sys
from argparse import Namespace

import pytest
from conftest import BUNDLE, CONFIGS, ROOT
from helpers import stubs

NAMES = [f"TCGA_{place}_{n:04}_20000101" for place in ("CS", "DU") for n in range(3)]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("lgg")


@pytest.fixture
def data(tmp_path):
    """Six patients of two slices."""
    inside = [f"{name}/{name}_{k}{end}.tif" for name in NAMES for k in (1, 2) for end in ("", "_mask")]
    return stubs(tmp_path / "kaggle_3m", inside)


@pytest.fixture
def ran(script, monkeypatch):
    """The commands, which are not run."""
    commands = []
    for module in (importlib.import_module("trainings"), importlib.import_module("slice_folds")):
        monkeypatch.setattr(module, "execute", lambda title, command, deadline: commands.append(command) or True)
    monkeypatch.setattr(script, "seconds_a_step", lambda study, name, *_: 4.0 if "resnext" in name else 1.0)
    return commands


def call(script, data, tmp_path, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["lgg", str(data), "--output", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as ended:
        script.main()
    return ended.value.code


def test_commands_name_files_knobs_and_parts_that_exist(script, data, tmp_path, monkeypatch, ran):
    assert not call(script, data, tmp_path, monkeypatch, "--folds", "2", "--fold", "1")
    assert not call(script, data, tmp_path, monkeypatch, "--table", "--folds", "2", "--fold", "0")
    known = {key for file in CONFIGS.glob("*.json") for key in json.loads(file.read_text())}
    named = {kind: json.loads((CONFIGS / f"{kind}.json").read_text()) for kind in ("networks", "losses")}
    for command in ran:
        words = shlex.split(command)
        options = dict(
            zip((word for word in words if word.startswith("--")), words[words.index("--config_file") + 1 :: 2])
        )
        assert {word[2:].split("::")[0] for word in options} - {"config_file"} <= known
        assert all((BUNDLE / file).is_file() for file in json.loads(options["--config_file"].replace("'", '"')))
        for word in options.values():
            if word.startswith("%configs/"):
                kind, name = word.removeprefix("%configs/").split(".json::")
                assert name in named[kind]
        assert ("--keep_last" in options) is (words[4] == "training")
    scored = sum(1 + len(variant.scored) for variant in script.RECIPES.values())
    assert len(ran) == len(script.RECIPES) + scored + 2 * 12 and len(script.CELLS) == 12


def test_every_network_has_the_same_time(script, data, tmp_path, monkeypatch, ran):
    """A step of four seconds gets a quarter of the epochs of a step of one second."""
    names = ["unet_32.batch_dice", "resnext_unet.sampled_bce"]
    call(script, data, tmp_path, monkeypatch, "--table", "--only", *names, "--fold", "0", "--minutes_each", "2")
    epochs = [int(shlex.split(c)[shlex.split(c).index("--epochs") + 1]) for c in ran if " training " in c]
    assert epochs == [30, 7]  # four patients, four times an epoch: four steps


def test_what_is_scored_did_not_train(script, data, tmp_path, monkeypatch, ran):
    call(script, data, tmp_path, monkeypatch, "--only", "narrow", "--folds", "3")
    validated = []
    for fold in range(3):
        listed = json.loads((tmp_path / "out" / "narrow" / f"{fold}of3" / "datalist.json").read_text())
        training, validation = ([entry["patient"] for entry in listed[key]] for key in ("training", "validation"))
        assert sorted(training + validation) == NAMES and not listed["test"]
        validated += validation
    assert sorted(validated) == NAMES


def test_an_unknown_name_is_refused(script, data, tmp_path, monkeypatch, capsys):
    assert call(script, data, tmp_path, monkeypatch, "--only", "unet_32.batch_dice") == 2
    assert "--only unet_32.batch_dice: expected some of narrow, wide" in capsys.readouterr().err


def test_the_same_network_is_evaluated_as_trained(script, tmp_path, ran, data):
    study = script.Study(data, tmp_path, "recipe_lgg_2d", "", script.CLASSES)
    entries = [{"image": name, "label": name, "patient": name} for name in NAMES]
    given = Namespace(folds=2, entries=entries, minutes_each=1)
    for name in ("wide", "tumour_tissue", "tissue_flair", "tissue_stacked", "feature_pyramid.batch_iou"):
        ran.clear()
        assert script.work(study, name, 0, given, math.inf)
        found = [
            {w: words[i + 1] for i, w in enumerate(words) if w.startswith("--")} for words in map(shlex.split, ran)
        ]
        keys = ("--spatial_size", "--widths", "--norm", "--neighbours", "--network_def", "--network_def::in_channels")
        for key in (*keys, "--deterministic_chain::5"):
            assert len({one.get(key) for one in found}) == 1, (name, key)


def test_tables(script):
    shared = {"processors": ["zen4"], "seconds_a_step": 1.234}

    def row(what, cell, **more):
        dice = {"mean": 0.8, "ci": [0.7, 0.9], "median": 0.85}
        return {"what": what, "cell": cell, "patients": 30, "dice": dice, "epochs": 60, "minutes": 20.2} | shared | more

    less = {"difference": {"mean": 0.01, "ci": [-0.02, 0.04]}}
    rows = [
        row("16 to 256 channels", False, mirrored=0.81, largest=0.79),
        row("wide", False, **less),
        row("U-Net 32 | Dice", True),
        row("feature pyramid | IoU", True, **less),
    ]
    recipes, cells, below = script.table(rows).split("\n\n")
    assert "| 16 to 256 channels | 30 | 0.800 (0.700 to 0.900) | 0.850 | 0.810 | 0.790 |  | 60 | 20 min |" in recipes
    assert "| wide | 30 | 0.800 (0.700 to 0.900) | 0.850 | - | - | +0.010 (-0.020 to +0.040) | 60 | 20 min |" in recipes
    assert "as published | 105 | 0.836 | 0.873 |" in recipes
    assert (
        "| feature pyramid | IoU | 30 | 0.800 (0.700 to 0.900) | +0.010 (-0.020 to +0.040) | 1.23 | 60 | 20 min |"
        in cells
    )
    assert below.endswith("Processor: zen4.")
    for part in (recipes, cells):
        assert len({line.replace("\\|", "").count("|") for line in part.splitlines()}) == 1
