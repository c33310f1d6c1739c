"""The package for the model zoo: what travels in it, what does not, and that it is tried before it is given away."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import BUNDLE, CONFIGS, ROOT, read
from helpers import refusal, stubs
from monai.bundle import ConfigParser

from scripts.core.errors import UserError

WEIGHTS = "models/model.pt"


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


def test_what_runs_leave_beside_the_bundle_stays(package, tmp_path):
    stay = ["configs/train.json", "data/scan.nii.gz", "output/history.csv", "predictions/a_seg.nii.gz",
            "node_modules/a/b.js", "cache/a.case", "next/next.csv", "folds.json", "plan.json", "plan.png",
            "fold0/run/report.html", "fold0/models/model.pt", "studies/rate/study.csv", "models/.openvino/a.xml",
            "models/last.pt", "models/model.pt", "models/model.1.pt", "models/model.pt.sha256",
            "models/tube.pt.sha256", "models/tube_2.pt", "models/pair.pt", "models/pair.pt.sha256", "models/pair_3.pt",
            "scripts/data/__pycache__/x.pyc"]  # fmt: skip
    travel = ["LICENSE", "configs/other.json", "configs/recipe.json", "models/README.md", "models/pair.json",
              "models/pair_1.pt", "models/pair_2.pt", "models/tube.json", "models/tube.pt",
              "models/pair_doubt.json",
              "scripts/data/a.py", "scripts/output/x.py"]  # fmt: skip
    stubs(tmp_path, [*stay[1:], *travel])
    for recipe, shipped in {"other": "pair.json", "recipe": "tube.pt"}.items():
        (tmp_path / "configs" / f"{recipe}.json").write_text(json.dumps({"shipped_weights": shipped}))
    for name, listed in {"pair": ("pair_1.pt", "pair_2.pt"), "tube": ("tube.pt",)}.items():
        networks = [{"file": file, "sha256": ""} for file in listed]
        (tmp_path / "models" / f"{name}.json").write_text(json.dumps({"networks": networks}))
    assert [path.as_posix() for path in package.contents(tmp_path)] == sorted(travel)


def test_models_holds_what_its_descriptions_list_and_nothing_else(verify, collected):
    """By the step that every package is tried by, and by the descriptions themselves."""
    verify.described_weights(collected)
    descriptions = [file for file in (collected / "models").glob("*.json") if not file.name.endswith("_doubt.json")]
    described = {file: json.loads(file.read_text())["networks"] for file in descriptions}
    listed = {entry["file"]: entry["sha256"] for networks in described.values() for entry in networks}
    present = {file.name for file in (collected / "models").iterdir()} - {file.name for file in described}
    assert present == {"README.md", "hippocampus_doubt.json", *listed} and len(listed) >= 3
    for name, digest in listed.items():
        assert hashlib.sha256((collected / "models" / name).read_bytes()).hexdigest() == digest


def truncated(models: Path) -> str:
    (models / "hippocampus_1.pt").write_bytes(b"")
    return "models/hippocampus_1.pt: found e3b0c44298fc1c14"


def without_a_listed_file(models: Path) -> str:
    (models / "hippocampus_2.pt").unlink()
    return "models/hippocampus_2.pt: found no such file"


def with_a_digest_of_no_file(models: Path) -> str:
    (models / "hippocampus.pt.sha256").touch()
    return "models/hippocampus.pt.sha256: no JSON file in models/ lists it"


def without_shipped_weights(models: Path) -> str:
    for file in models.glob("hippocampus*"):
        file.unlink()
    return "models/hippocampus.json: a configuration names it as shipped"


@pytest.mark.parametrize("spoil", [truncated, without_a_listed_file, with_a_digest_of_no_file, without_shipped_weights])
def test_weights_that_do_not_fit_their_descriptions_are_noticed(spoil, verify, collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "copy")
    expected = spoil(folder / "models")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        verify.described_weights(folder)
    assert str(caught.value).startswith(expected)


def test_what_is_known_of_the_weights_travels_with_them(package, collected, weights, tmp_path):
    known = json.loads(weights.with_suffix(".json").read_text())
    assert json.loads((collected / "models" / "model.json").read_text()) == known
    stubs(tmp_path, ["last.json", "models/README.md"])
    (tmp_path / "best.pt").write_bytes(b"new")
    digest = hashlib.sha256(b"new").hexdigest()
    described = {"networks": [{"file": "best.pt", "sha256": digest}], "epoch": 2}
    before = {"networks": [{"file": "best.pt", "sha256": 64 * "0"}], "epoch": 1}
    for content in ({**described, "replaced": before}, {**before, "replaced": described}):  # killed early, killed late
        (tmp_path / "best.json").write_text(json.dumps(content))
        package.take_weights(tmp_path / "best.pt", tmp_path / "models")
        assert files(tmp_path / "models") == {"README.md", "model.pt", "model.json"}
        travelled = json.loads((tmp_path / "models" / "model.json").read_text())
        assert travelled == {"networks": [{"file": "model.pt", "sha256": digest}], "epoch": 2}
    (tmp_path / "best.json").write_text(json.dumps(before))
    with pytest.raises(UserError, match="best.json names another"):
        package.take_weights(tmp_path / "best.pt", tmp_path / "models")


def test_knobs_of_the_patch_are_written_in(collected, weights):
    knobs = json.loads(weights.with_name("patch.json").read_text())
    for name in ("train.json", "inference.json"):
        assert {key: json.loads((collected / "configs" / name).read_text())[key] for key in knobs} == knobs
    formats = json.loads((collected / "configs" / "metadata.json").read_text())["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [32, 32, 32]
    assert json.loads((collected / "configs" / "evaluate.json").read_text()) == read("evaluate.json")
    for file in CONFIGS.glob("*.json"):
        assert (collected / "configs" / file.name).read_text().splitlines()[1].startswith('    "')


def test_the_metadata_have_the_channels_of_the_patch(package, weights, tmp_path):
    """Of an image those that the network takes: the recipe gives it the two slices beside each one."""
    (tmp_path / "alone.json").write_text(json.dumps({"neighbours": 0}))
    for files, channels in (["recipe_lgg_2d"], 9), (["recipe_lgg_2d", tmp_path / "alone"], 3), (["strong"], 1):
        patches = [(CONFIGS / name).with_suffix(".json") for name in files]
        made = tmp_path / f"made_{channels}"
        package.collect(weights, patches, made)
        formats = json.loads((made / "configs" / "metadata.json").read_text())["network_data_format"]
        image = formats["inputs"]["image"]
        assert image["num_channels"] == len(image["channel_def"]) == channels
    assert image == read("metadata.json")["network_data_format"]["inputs"]["image"]
    formats = json.loads((tmp_path / "made_3" / "configs" / "metadata.json").read_text())["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    assert image["channel_def"] == {"0": "image_0", "1": "image_1", "2": "image_2"}
    assert pred["num_channels"] == 1 and pred["channel_def"] == {"0": "tumour"}
    own = package.with_knobs("metadata.json", read("metadata.json"), {"class_names": ["background", "kidney"]})
    pred = own["network_data_format"]["outputs"]["pred"]
    assert pred["num_channels"] == 2 and pred["channel_def"] == {"0": "background", "1": "kidney"}


def test_of_several_patches_the_last_one_wins(package, weights, tmp_path):
    (tmp_path / "last.json").write_text(json.dumps({"seed": 5}))
    package.collect(weights, [weights.with_name("patch.json"), tmp_path / "last.json"], tmp_path / "made")
    train = json.loads((tmp_path / "made" / "configs" / "train.json").read_text())
    assert train["seed"] == 5 and train["spatial_size"] == [32, 32, 32]


def test_weights_of_other_classes_than_the_patch_says_are_refused(package, weights, collected, tmp_path):
    package.refuse_other_classes(weights, collected)
    (tmp_path / "own.json").write_text(json.dumps({"class_names": ["background", "kidney"]}))
    package.collect(weights, [tmp_path / "own.json"], tmp_path / "made")  # other programs add the patch by themselves
    message = refusal(package.refuse_other_classes, weights, tmp_path / "made")
    assert "found the classes ['background', 'body'" in message and "expected ['background', 'kidney']" in message


@pytest.mark.parametrize("patch", sorted(file.stem for file in CONFIGS.glob("recipe_*.json")))
def test_a_recipe_is_written_in_with_all_that_it_refers_to(patch, package):
    """Each configuration can then be built by itself."""
    knobs = read(f"{patch}.json")
    for name in ("train.json", "inference.json"):
        made = ConfigParser(package.with_knobs(name, read(name), knobs))
        if name == "train.json":
            made["train::dataloader"] = [0]
        assert sum(1 for _ in made.get_parsed_content("network_def").parameters()) > 0
        assert made.get_parsed_content("deterministic_chain")
    assert "random_chain" not in package.with_knobs("inference.json", read("inference.json"), knobs)


def test_what_a_patch_appends_is_written_in(package):
    more = {"+random_chain": [{"_target_": "RandGaussianNoised", "keys": "image"}]}
    assert package.with_knobs("train.json", read("train.json"), more)["+random_chain"] == more["+random_chain"]
    assert "+random_chain" not in package.with_knobs("inference.json", read("inference.json"), more)


@pytest.mark.parametrize("patch", ["strong.json", "strong_2d.json", "finetune.json"])
def test_a_patch_on_training_leaves_inference_as_it_is(patch, package):
    assert package.with_knobs("inference.json", read("inference.json"), read(patch)) == read("inference.json")


def test_a_patch_that_lacks_what_it_refers_to_is_refused(package):
    message = refusal(package.with_knobs, "train.json", read("train.json"), {"epochs": "$@nowhere + 1"})
    assert "train.json would refer to nowhere, which it does not have" in message


def test_the_same_content_gives_the_same_bytes(package, collected, tmp_path):
    for name in ("a.zip", "b.zip"):
        package.pack(collected, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name.removeprefix(f"{package.NAME}/") for name in archive.namelist()} == files(collected)


def test_weights_that_are_not_there_take_one_line(package, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["package.py", "--weights", "nowhere.pt"])
    with pytest.raises(SystemExit, match="^nowhere.pt: no weights there") as ended:
        package.main()
    assert len(str(ended.value).splitlines()) == 1


def test_a_package_that_is_refused_is_not_left(package, weights, tmp_path, monkeypatch):
    done = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(package, "tidy", lambda folder: None)
    monkeypatch.setattr(package.subprocess, "run", lambda *_, **__: done)
    words = ["--weights", str(weights), "--output_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["package.py", *words])
    with pytest.raises(SystemExit):
        package.main()
    assert not files(tmp_path)
    done.returncode = 0
    package.main()
    assert files(tmp_path) == {package.package_file().name}


def tried(file: Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", str(ROOT / ".ci" / "verify.py"), str(file)]
    return subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.programs
def test_the_zoo_has_nothing_to_say_on_the_format(package, verify, collected, tmp_path):
    folder = shutil.copytree(collected, tmp_path / package.NAME)
    package.tidy(folder)
    verify.python_format(folder)


@pytest.mark.slow
def test_the_zoos_steps_pass(package, weights, tmp_path):
    folder = tmp_path / package.NAME
    package.collect(weights, [weights.with_name("patch.json")], folder)
    package.tidy(folder)
    package.pack(folder, tmp_path / "good.zip")
    done = tried(tmp_path / "good.zip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n-- ") + done.stdout.startswith("-- ") == 9


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
    package.collect(weights, [], folder)
    expected = spoil(folder)
    package.pack(folder, tmp_path / "bad.zip")
    done = tried(tmp_path / "bad.zip")
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1] and "bad.zip: not so: " in done.stderr.splitlines()[-1]
