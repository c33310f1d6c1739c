"""Copies of one text are equal, patches name what exists, and the metadata repeats the configuration."""

import ast
import json
import re
import sys

import pytest
from conftest import BUNDLE, CONFIGS, EVALUATE, read, workflow
from monai.bundle import ConfigParser

from scripts.core.extras import EXTRAS
from scripts.phantoms import generate
from scripts.run import command_line


@pytest.mark.parametrize(
    "key", ["class_names", "spatial_size", "features", "dropout", "deterministic_chain", "network_def"]
)
def test_train_and_inference_share(key):
    assert read("train.json")[key] == read("inference.json")[key]


@pytest.mark.parametrize(
    "key", ["weights", "single_piece", "keep_largest", "looks", "doubt", "uncertainty", "doubt_from"]
)
def test_evaluate_and_inference_share(key):
    expected = read("inference.json")[key]
    if key == "doubt":
        assert expected.pop("likeness") == "@likeness"  # an evaluation judges no image
    assert read("evaluate.json")[key] == expected


@pytest.mark.parametrize("key", ["warmup", "schedule_by_epoch", "iterations", "half", "amp", "averaged", "optimizer"])
def test_the_strong_trainings_of_volumes_and_of_slices_share(key):
    assert read("strong.json")[key] == read("strong_2d.json")[key]


def test_their_schedules_differ_in_the_last_rate_alone():
    """It was measured for volumes that it should not fall to 0, and not for slices."""
    end = {"end_lr": "$0.5 * @learning_rate"}
    assert read("strong.json")["lr_scheduler"] == read("strong_2d.json")["lr_scheduler"] | end


@pytest.mark.parametrize("recipe", ["recipe_promise12", "strong"])
def test_several_processes_validate_the_average_as_well(recipe):
    """With the patch for several processes as the last file, as the guide has it."""
    made = ConfigParser()
    made.read_config([str(CONFIGS / f"{name}.json") for name in ("train", recipe, "multi_gpu_train")])
    assert made["averaged"] == "$@averaging.ema_model"


@pytest.mark.parametrize("key", ["imports", "device", "initialize"])
def test_multi_gpu_patches_share(key):
    assert read("multi_gpu_train.json")[key] == read("multi_gpu_evaluate.json")[key]


def test_multi_gpu_patches_of_evaluation_and_inference_share():
    evaluate, inference = read("multi_gpu_evaluate.json"), read("multi_gpu_inference.json")
    assert evaluate["device"] == inference["device"] and evaluate["finalize"] == inference["finalize"]
    assert evaluate["initialize"][:-2] == inference["initialize"][:-2]
    assert inference["initialize"][-2:] == read("inference.json")["initialize"][-2:]
    samplers = evaluate["validate::sampler"], inference["sampler"]
    assert [part.pop("dataset") for part in samplers] == ["@validate::dataset", "@dataset"]
    assert samplers[0] == samplers[1]


def test_the_status_is_given_last():
    """After locks, log file and process group: what was done is done."""
    train, evaluate, inference = (read(f"{name}.json")["finalize"] for name in ("train", "evaluate", "inference"))
    assert evaluate == inference == [*train, "$@journal.exit_with_status()"]
    several = [read(f"multi_gpu_{name}.json")["finalize"] for name in ("train", "evaluate", "inference")]
    assert several[1] == several[2] == [*several[0], "$@journal.exit_with_status()"] and several[0][:1] == train


def test_train_and_validate_have_the_same_members():
    train, validate = read("train.json")["train"], read("train.json")["validate"]
    assert [k.replace("trainer", "evaluator") for k in train] == list(validate)


@pytest.mark.parametrize(
    "patch",
    [
        "evaluate.json",
        "demo.json",
        "resize_last.json",
        "multi_gpu_train.json",
        "multi_gpu_evaluate.json",
        "multi_gpu_inference.json",
    ],
)
def test_every_id_of_a_patch_is_used(patch):
    """An id is used if the base has it, or if something refers to it."""
    bases = [read("train.json"), read("evaluate.json"), read("inference.json")]
    everything = json.dumps([*bases, read(patch)])
    for name in read(patch):
        if name.startswith("_desc") or name in ("imports", "initialize", "finalize", "evaluating", "run"):
            continue
        parser = ConfigParser({**bases[0], **read("evaluate.json")} if "::" in name else bases[0])
        assert (
            name in parser
            or command_line.is_argument(name, command_line.known_ids()[1])
            or re.search(rf"@{name}\b", everything)
        ), f"{patch}: nobody uses {name}"


def test_phantoms_have_the_configured_classes():
    assert list(generate.CLASSES) == read("train.json")["class_names"]


def test_metadata_repeats_the_configuration():
    meta, train = read("metadata.json"), read("train.json")
    image, pred = (meta["network_data_format"][k][v] for k, v in (("inputs", "image"), ("outputs", "pred")))
    assert list(pred["channel_def"].values()) == train["class_names"]
    assert image["spatial_shape"] == pred["spatial_shape"] == train["spatial_size"]
    assert (image["num_channels"], pred["num_channels"]) == (1, len(train["class_names"]))
    assert meta["version"] in meta["changelog"]


def test_metadata_pins_what_the_requirements_pin():
    meta = read("metadata.json")
    lines = (BUNDLE.parent / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    named = {"monai": meta["monai_version"], "torch": meta["pytorch_version"], "numpy": meta["numpy_version"]}
    for package, version in {**named, **meta["required_packages_version"]}.items():
        assert pinned[package] == version, package


def test_imports_of_the_scripts_are_pinned():
    """Everything the scripts import comes with Python, from the bundle, or is named in the metadata or in an extra."""
    distribution = {"ignite": "pytorch-ignite", "PIL": "pillow"}
    meta = read("metadata.json")
    extras = " ".join(EXTRAS.values()).split()
    known = {"monai", "torch", "numpy", "scripts", *meta["required_packages_version"], *extras}
    for file in sorted((BUNDLE / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            paths = [node.module] if isinstance(node, ast.ImportFrom) else []
            paths += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in {path.split(".")[0] for path in paths} - sys.stdlib_module_names:
                assert distribution.get(module, module) in known, f"{file.name} imports {module}"


def test_what_a_message_tells_to_install_is_the_extra_and_pinned():
    project = (BUNDLE.parent / "pyproject.toml").read_text()
    pinned = "".join((BUNDLE.parent / f"requirements{name}.txt").read_text() for name in ("", "-dicom", "-dev"))
    for extra, packages in EXTRAS.items():
        listed = re.search(rf"^{extra} = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)[1]
        assert re.findall(r'"([a-z-]+)[>=]', listed) == packages.split()
        assert all(f"\n{package}==" in pinned for package in packages.split())


@pytest.mark.parametrize("files, kind", [(["train.json"], "train"), (["inference.json"], "infer"), (EVALUATE, "train")])
def test_check_properties(files, kind, trained_copy, phantoms, tmp_path):
    made = workflow(kind, files, dataset_dir=phantoms, output_dir=trained_copy, ckpt_dir=tmp_path)
    made.initialize()
    assert made.check_properties() == []
