"""What the documents say is what a run or a file says."""

import json
import re

import pytest
from conftest import BUNDLE, CONFIGS, ROOT

DOCUMENTS = [ROOT / "README.md", BUNDLE / "docs" / "README.md"]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_table_is_the_demos(file):
    summary = (BUNDLE / "docs" / "demo_summary.txt").read_text()
    assert f"```\n{summary}```" in file.read_text()


def test_the_mean_is_the_tables_and_the_demo_is_worth_showing():
    _, background, *classes, mean = (BUNDLE / "docs" / "demo_summary.txt").read_text().splitlines()
    assert f"`make demo` | mean Dice of 5 classes | - | {mean.split()[-1]} |" in (ROOT / "README.md").read_text()
    assert float(mean.split()[-1]) >= 0.9 and background.startswith("background")
    assert len(classes) == 5 and all(float(line.split()[2]) >= 0.8 for line in classes)


@pytest.mark.parametrize("file", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda file: str(file.relative_to(ROOT)))
def test_pictures_and_files_exist(file):
    text = file.read_text()
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert all((file.parent / name).is_file() for name in named)
    for path in re.findall(r"`((?:bundle|configs|benchmarks|tests|docs|scripts)/[\w./]*)`", text):
        assert (ROOT / path).exists() or (BUNDLE / path).exists(), path
    for name in re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE):
        assert (ROOT / "benchmarks" / name).is_file(), name


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_knob_that_is_named_exists(file):
    known = {
        key for name in ("train", "inference", "evaluate") for key in json.loads((CONFIGS / f"{name}.json").read_text())
    }
    foreign = {
        "output",
        "folds",
        "patients",
        "scans",
        "size",
        "dataset_dir",
        "nproc_per_node",
        "config_file",
        "meta_file",
    }
    foreign |= {"filepath", "ckpt_file", "key_in_ckpt", "network_def::checkpointing"}
    named = set(re.findall(r"--([\w:]+)", file.read_text()))
    assert named <= known | foreign


def test_card_repeats_the_configuration():
    train = json.loads((CONFIGS / "train.json").read_text())
    card = (BUNDLE / "docs" / "README.md").read_text()
    for words in (
        f"{train['features']} features, dropout {train['dropout']}",
        f"{train['ce_weight']} cross-entropy",
        f"times {train['lr_decay']} an epoch",
        f"Batch {train['batch_size']}, {train['epochs']} epochs",
        f"rotation up to {train['rotate_range']} rad",
        f"Gaussian noise of {train['noise_std']}",
    ):
        assert words in card
    assert (train["learning_rate"], train["weight_decay"]) == (5e-4, 1e-5)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert "esearch use only" in (ROOT / "README.md").read_text()
