"""What the documents say is what a run or a file says."""

import importlib.util
import json
import re
from statistics import mean, median

import pytest
from conftest import BUNDLE, CONFIGS, ROOT

DOCUMENTS = [ROOT / "README.md", BUNDLE / "docs" / "README.md"]


@pytest.fixture(scope="module")
def figures():
    """The script that writes the documents' table, and the demo's metrics that it kept."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / ".ci" / "figures.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script, json.loads((BUNDLE / "docs" / "demo_metrics.json").read_text())


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_table_is_the_demos(file, figures):
    script, metrics = figures
    assert f"\n\n{script.table(metrics)}\n\n" in file.read_text()


def test_the_mean_is_the_tables_and_the_demo_is_worth_showing(figures):
    script, metrics = figures
    mean, (low, high) = metrics["foreground"]["mean"], metrics["foreground"]["ci"]
    row = f"`make demo` | mean Dice of 5 classes | - | {mean:.3f} ({low:.3f} to {high:.3f}) |"
    assert row in (ROOT / "README.md").read_text()
    assert low < mean < high and mean >= 0.9 and len(metrics["classes"]) == 5
    for name, found in metrics["classes"].items():
        assert found["measures"]["Dice"]["mean"] >= 0.8 and found["missed"] == 0, name
    assert len(metrics["patients"]) == 4 and metrics["foreground"]["n"] == 8


def test_the_tables_of_the_recipes_are_those_that_were_measured(figures):
    tables = figures[0].tables()
    assert set(tables) == set(figures[0].TABLES)
    for name, made in tables.items():
        text = figures[0].TABLES[name][1].read_text()
        assert f"<!-- {name} -->\n\n{made}\n\n<!-- end -->" in text, name
    found = json.loads((BUNDLE / "docs" / "recipes_metrics.json").read_text())["rows"]
    assert {row["recipe"] for row in found} >= {file.stem for file in CONFIGS.glob("recipe_*.json")}
    assert all(row["dice"] >= 0.8 for row in found)


def test_the_readme_has_the_hippocampus_as_it_was_measured():
    rows = json.loads((BUNDLE / "docs" / "hippocampus_metrics.json").read_text())["rows"]
    folds = [row for row in rows if "dice" in row]
    front, back = (mean(fold["dice"]["run"][name]["mean"] for fold in folds) for name in ("anterior", "posterior"))
    (row,) = re.findall(r"^\| real MR of the hippocampus.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [fold["part"] for fold in folds] == ["fold0", "fold1", "fold2", "fold3"] and "mean of four folds" in row
    assert f", {round(median(fold['seconds'] for fold in folds) / 60)} minutes each on" in row
    assert f"| {front:.3f} / {back:.3f} (`bundle/docs/hippocampus.md`) |" in row


def test_pictures_are_small():
    pictures = [*(BUNDLE / "docs").glob("*.png")]
    assert len(pictures) >= 3 and all(picture.stat().st_size < 600_000 for picture in pictures)


@pytest.mark.parametrize(
    "file",
    [*DOCUMENTS, BUNDLE / "docs" / "recipes.md", BUNDLE / "docs" / "hippocampus.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_pictures_and_files_exist(file):
    text = file.read_text()
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert all((file.parent / name).is_file() for name in named)
    for path in re.findall(r"`((?:bundle|configs|benchmarks|tests|docs|scripts)/[\w./]*)`", text):
        assert (ROOT / path).exists() or (BUNDLE / path).exists(), path
    for name in re.findall(r"^\| `(\w+\.py)` \|", text, re.MULTILINE):
        assert (ROOT / "benchmarks" / name).is_file(), name


@pytest.mark.parametrize(
    "file",
    [*DOCUMENTS, BUNDLE / "docs" / "recipes.md", BUNDLE / "docs" / "hippocampus.md"],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_every_knob_that_is_named_exists(file):
    names = ("train", "inference", "evaluate", "ensemble", "mirrored", "fast")
    configs = [*(CONFIGS / f"{name}.json" for name in names), *CONFIGS.glob("recipe_*.json")]
    known = {key for config in configs for key in json.loads(config.read_text())}
    foreign = {
        "output",
        "parts",
        "only",
        "set",
        "space",
        "folds",
        "patients",
        "scans",
        "size",
        "dataset_dir",
        "nproc_per_node",
        "config_file",
        "meta_file",
    }
    foreign |= {"truth", "prediction", "images", "filepath", "ckpt_file", "key_in_ckpt", "network_def::checkpointing"}
    named = set(re.findall(r"(?<![-|])--([a-z][\w:]*)", file.read_text()))
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
