"""The package for the model zoo: what travels in it, what does not, and that it is tried before it is given away."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import BUNDLE, CONFIGS, ROOT, read
from helpers import stubs
from monai.bundle import ConfigParser

WEIGHTS = "models/model.pt"
KNOBS = {"features": 4, "spatial_size": [32, 32, 32]}


@pytest.fixture(scope="module")
def package():
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        yield importlib.import_module("package")
    finally:
        sys.path.remove(str(ROOT / ".ci"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A plain state dict, as every tool of MONAI's world expects it, and what is known of it."""
    folder = tmp_path_factory.mktemp("weights")
    parser = ConfigParser({**read("inference.json"), **KNOBS})
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    digest = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    known = {"networks": [{"file": "model.pt", "sha256": digest}], "trained_on": "phantoms"}
    (folder / "model.json").write_text(json.dumps({**known, "class_names": read("inference.json")["class_names"]}))
    (folder / "patch.json").write_text(json.dumps(KNOBS))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def collected(package, weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collected") / package.NAME
    package.collect(weights, weights.with_name("patch.json"), folder)
    return folder


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_everything_that_git_keeps_travels(collected):
    """Both lists, side by side: what git tracks in bundle/, and what is in the package."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."]
    listed = subprocess.run(command, cwd=BUNDLE, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a clone of the repository")
    kept = {name for name in listed.stdout.split("\n") if name and (BUNDLE / name).is_file()}
    assert "scripts/data/datalist.py" in kept and len(kept) > 100
    assert files(collected) == kept | {WEIGHTS, "models/model.json"}


def test_only_folders_of_the_bundle_itself_are_left_out(package, tmp_path):
    stay = ["configs/train.json", "data/scan.nii.gz", "output/history.csv", "predictions/a_seg.nii.gz",
            "models/last.pt", "models/model.pt", "models/model.1.pt", "models/model.pt.sha256",
            "scripts/data/__pycache__/x.pyc"]  # fmt: skip
    travel = ["LICENSE", "configs/recipe.json", "models/README.md", "models/tube.json", "models/tube.pt",
              "models/tube.pt.sha256", "models/tube_1.pt", "scripts/data/a.py", "scripts/output/x.py"]  # fmt: skip
    stubs(tmp_path, [*stay[1:], *travel])
    (tmp_path / "configs" / "recipe.json").write_text('{"shipped_weights": "tube.pt"}')
    assert [path.as_posix() for path in package.contents(tmp_path)] == sorted(travel)


def test_weights_that_a_recipe_names_are_there(package, collected):
    named = package.shipped_weights(collected)
    assert named and all((collected / "models" / name).is_file() for name in named)


def test_what_is_known_of_the_weights_travels_with_them(package, collected, weights, tmp_path):
    assert (collected / "models" / "model.json").read_bytes() == weights.with_suffix(".json").read_bytes()
    stubs(tmp_path, ["best.pt", "last.json", "models/README.md"])
    (tmp_path / "best.json").write_text('{"networks": [{"file": "best.pt"}]}')
    package.take_weights(tmp_path / "best.pt", tmp_path / "models")
    assert files(tmp_path / "models") == {"README.md", "model.pt", "model.json"}
    assert (tmp_path / "models" / "model.json").read_text() == '{"networks": [{"file": "model.pt"}]}'


def test_knobs_of_the_patch_are_written_in(collected):
    for name in ("train.json", "inference.json"):
        assert {key: json.loads((collected / "configs" / name).read_text())[key] for key in KNOBS} == KNOBS
    formats = json.loads((collected / "configs" / "metadata.json").read_text())["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [32, 32, 32]
    assert json.loads((collected / "configs" / "evaluate.json").read_text()) == read("evaluate.json")
    for file in CONFIGS.glob("*.json"):
        assert (collected / "configs" / file.name).read_text().splitlines()[1].startswith('    "')


def test_the_same_content_gives_the_same_bytes(package, collected, tmp_path):
    for name in ("a.zip", "b.zip"):
        package.pack(collected, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name.removeprefix(f"{package.NAME}/") for name in archive.namelist()} == files(collected)


def test_weights_that_are_not_there_take_one_line():
    command = [sys.executable, str(ROOT / ".ci" / "package.py"), "--weights", "nowhere.pt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("nowhere.pt: no weights there")
    assert len(done.stderr.splitlines()) == 1


def tried(file: Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", str(ROOT / ".ci" / "verify.py"), str(file)]
    return subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_zoos_steps_pass(package, weights, tmp_path):
    folder = tmp_path / package.NAME
    package.collect(weights, weights.with_name("patch.json"), folder)
    package.tidy(folder)
    package.pack(folder, tmp_path / "good.zip")
    done = tried(tmp_path / "good.zip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n-- ") + done.stdout.startswith("-- ") == 8


def version_without_an_entry(folder: Path) -> str:
    file = folder / "configs" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": "9.9.9"}))
    return "version is 9.9.9, its changelog has 0.1.0"


def no_card(folder: Path) -> str:
    (folder / "docs" / "README.md").unlink()
    return "found no docs/README.md"


def metadata_without_a_task(folder: Path) -> str:
    file = folder / "configs" / "metadata.json"
    content = json.loads(file.read_text())
    del content["task"]
    file.write_text(json.dumps(content))
    return "'task' is a required property"


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [version_without_an_entry, no_card, metadata_without_a_task])
def test_what_the_zoo_would_refuse_takes_one_line(spoil, package, weights, tmp_path):
    folder = tmp_path / package.NAME
    package.collect(weights, None, folder)
    expected = spoil(folder)
    package.pack(folder, tmp_path / "bad.zip")
    done = tried(tmp_path / "bad.zip")
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1] and "bad.zip: not so: " in done.stderr.splitlines()[-1]
