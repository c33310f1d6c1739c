"""The script on hearts: which pictures are of one patient, what chooses and what is scored, its table."""

import importlib
import json
import shlex
import sys

import pytest
from conftest import BUNDLE, CONFIGS, ROOT
from helpers import stubs


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("cardiac")


@pytest.fixture
def data(tmp_path):
    """Six patients to train on, one in val."""
    numbers = {"train": range(1, 13), "val": (101, 102)}
    inside = [
        f"{split}/{kind}"
        for split, of in numbers.items()
        for n in of
        for kind in (f"image/cmr{n}.png", f"mask/cmr{n}_mask.png")
    ]
    return stubs(tmp_path / "data", inside)


@pytest.fixture
def run(script, data, tmp_path, monkeypatch):
    """Runs the script; returns the commands, of which a training leaves a file of weights and nothing else is run."""
    commands = []

    def execute(title, command, deadline):
        words = shlex.split(command)
        if words[4] == "training":
            stubs(tmp_path, [f"{words[words.index('--ckpt_dir') + 1]}/model.pt"])
        commands.append(command)
        return True

    for name in ("trainings", "slice_folds", "cardiac"):
        monkeypatch.setattr(importlib.import_module(name), "execute", execute)

    def call(*words):
        commands.clear()
        monkeypatch.setattr(sys, "argv", ["cardiac", str(data), "--output", str(tmp_path / "out"), *words])
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert not ended.value.code
        return list(commands)

    return call


def lists(tmp_path, part):
    listed = json.loads((tmp_path / "out" / part / "datalist.json").read_text())
    return {split: [entry["image"] for entry in listed[split]] for split in ("training", "validation", "test")}


@pytest.mark.parametrize(
    "image, patient",
    [
        ("train/image/cmr1.png", "heart001"),
        ("train/image/cmr2.png", "heart001"),
        ("val/image/cmr119.png", "heart060"),
        ("val/image/cmr120.png", "heart060"),
    ],
)
def test_two_phases_are_one_patient(script, image, patient):
    assert script.patient_of(image) == patient


def test_folds_never_see_val_and_keep_a_patient_together(run, tmp_path):
    ran = run("--only", "narrow", "--folds", "3")
    for fold in range(3):
        listed = lists(tmp_path, f"narrow/{fold}of3")
        assert not [image for images in listed.values() for image in images if image.startswith("val/")]
        numbers = [{(int(image[15:-4]) + 1) // 2 for image in listed[split]} for split in ("training", "validation")]
        assert not numbers[0] & numbers[1] and len(numbers[1]) == 2 and not listed["test"]
    assert all("--split validation" in command for command in ran if " evaluating " in command)


def test_the_final_networks_train_on_all_and_are_scored_on_val(script, run, tmp_path):
    run("--only", "long", "--folds", "2")
    ran = run("--final", "long", "--folds", "2")
    for part in script.FINAL:
        listed = lists(tmp_path, f"long/{part}")
        assert len(listed["training"]) == 12 and listed["validation"] == [] and len(listed["test"]) == 2
    trained = [shlex.split(command) for command in ran if " training " in command]
    assert [words[words.index("--seed") + 1] for words in trained] == ["0", "1", "2"]
    scored = {
        words[words.index("--output_dir") + 1].split("/")[-1]: words
        for words in map(shlex.split, ran)
        if words[4] == "evaluating"
    }
    members = {out: words[words.index("--members") + 1].count("model.pt") for out, words in scored.items()}
    assert members == {"val_one": 1, "val_seeds": 3, "val_folds": 2}
    assert all("--split test" in " ".join(words) for words in scored.values())
    assert "long/0of2/models/model.pt" in scored["val_folds"][scored["val_folds"].index("--members") + 1]


def test_the_mean_of_the_folds_needs_all_of_them(run):
    run("--only", "narrow", "--folds", "2", "--fold", "0")
    assert not [command for command in run("--final", "narrow", "--folds", "2") if "val_folds" in command]


def test_commands_name_files_and_knobs_that_exist(script, run):
    ran = run("--folds", "2") + run("--final", "wide", "--folds", "2")
    known = {key for file in CONFIGS.glob("*.json") for key in json.loads(file.read_text())}
    assert len(ran) == 2 * 2 * len(script.RECIPES) + len(script.FINAL) + 3
    for command in ran:
        words = shlex.split(command)
        assert {word[2:] for word in words if word.startswith("--")} - {"config_file"} <= known
        files = json.loads(words[words.index("--config_file") + 1].replace("'", '"'))
        assert all((BUNDLE / file).is_file() for file in files)
        assert ("--keep_last" in words) is (words[4] == "training")


def test_no_pictures_are_named(script, tmp_path):
    stubs(tmp_path, ["train/image/cmr1.png", "train/mask/cmr1_mask.png"])
    with pytest.raises(SystemExit, match="no pictures in val/image, expected cmr1.png and more"):
        script.cases_of(tmp_path, "val")


def test_table(script):
    dice = {"mean": 0.86, "ci": [0.8, 0.9]}
    row = {
        "what": "plain",
        "val": False,
        "cases": 100,
        "classes": [0.8, 0.84, 0.94],
        "dice": dice,
        "epochs": 20,
        "minutes": 9.8,
        "processors": ["zen4"],
    }
    less = {"difference": {"mean": -0.01, "ci": [-0.02, 0.0]}}
    folds, val, below = script.table(
        [row, row | {"what": "mirror images"} | less, row | {"what": "one", "val": True, "cases": 20}]
    ).split("\n\n")
    assert "| plain | 100 | 0.800 | 0.840 | 0.940 | 0.860 (0.800 to 0.900) |  | 20 | 10 min |" in folds
    assert (
        "| mirror images | 100 | 0.800 | 0.840 | 0.940 | 0.860 (0.800 to 0.900) | -0.010 (-0.020 to +0.000) |" in folds
    )
    assert "| one | 20 | 0.800" in val and "its authors, on test pictures of their own |" in val and "one" not in folds
    assert below.endswith("Processor: zen4.")
    for part in (folds, val):
        assert len({line.count("|") for line in part.splitlines()}) == 1
