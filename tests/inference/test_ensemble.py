"""Several networks, mirror images, and weights that a recipe brings along."""

import json
import shutil

import pytest
import torch
from conftest import TINY, run
from helpers import refusal
from monai.inferers import SimpleInferer
from torch import nn

from scripts.data.label_maps import read_labels
from scripts.inference.ensemble import Ensemble, MirroredInferer, join, load, match_ensemble
from scripts.phantoms.generate import CLASSES
from scripts.training.weights import find_weights, read_weights
from scripts.training.weights_info import write_weights


@pytest.fixture(scope="module")
def members(phantoms, tmp_path_factory) -> list:
    """Two short trainings; each folder holds model.pt and the data list."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for seed, folder in enumerate(folders):
        paths = {"dataset_dir": phantoms, "output_dir": folder, "ckpt_dir": folder}
        run("train", ["train.json"], epochs=2, learning_rate=0.01, seed=seed, **paths)
    return folders


def weighted(value: float) -> nn.Module:
    network = nn.Conv3d(1, 2, 1)
    nn.init.constant_(network.weight, value)
    nn.init.zeros_(network.bias)
    return network


def test_an_ensemble_gives_the_mean_of_the_scores():
    made = Ensemble([weighted(1.0), weighted(4.0)])
    x = torch.rand(1, 1, 4, 4, 4)
    assert torch.allclose(made(x), 2.5 * x.expand(-1, 2, -1, -1, -1))


def test_members_are_files():
    assert "expected files, --members" in refusal(match_ensemble, weighted(1.0), [])


def test_several_networks_in_one_list_are_an_ensemble(tmp_path):
    """In half precision, which holds these weights exactly; each of their files is a plain state dict."""
    files = [tmp_path / f"{value}.pt" for value in (1.0, 4.0)]
    for file in files:
        write_weights(weighted(float(file.stem)).state_dict(), {"class_names": ["a", "b"]}, file)
    joined, x = tmp_path / "joined.json", torch.rand(1, 1, 4, 4, 4)
    join(files, joined)
    content = read_weights(joined)
    assert content.networks[0]["weight"].dtype == torch.float16 and content.info == {"class_names": ["a", "b"]}
    expected = {str(files[1]): 4.0, str(joined): 2.5, (str(files[0]), str(joined)): 1.75}
    for given, value in expected.items():
        given = given if isinstance(given, str) else list(given)
        made = match_ensemble(weighted(0.0), given)
        load(given, made, ["a", "b"])
        assert torch.allclose(made(x), value * x.expand(-1, 2, -1, -1, -1))
    alone = weighted(0.0)
    alone.load_state_dict(torch.load(tmp_path / "joined_1.pt", weights_only=True))
    assert torch.equal(alone(x), weighted(1.0)(x))


def test_inference_with_several_networks_in_one_list(members, tmp_path):
    """The same maps, but for a voxel in a thousand by half precision, as with the files named one by one."""
    files = [folder / "model.pt" for folder in members]
    join(files, tmp_path / "joined.json")
    maps = []
    for name, patches, given in (
        ("named", ["ensemble.json"], {"members": [str(file) for file in files]}),
        ("joined", [], {"weights_file": tmp_path / "joined.json"}),
    ):
        source, out = members[0] / "datalist.json", tmp_path / name
        run("infer", ["inference.json", *patches], dataset_dir=source, output_dir=out, **given)
        maps.append([read_labels(file, CLASSES)[0] for file in sorted(out.glob("*_seg.nii.gz"))])
    assert all((one != other).mean() < 0.001 for one, other in zip(*maps, strict=True))


@pytest.mark.parametrize("axes, count", [((), 1), ((0,), 2), ((0, 2), 4), ((0, 1, 2), 8)])
def test_mirror_images_are_turned_back(axes, count):
    """A network that marks the first voxel along the first axis marks the first and the last, each by half."""
    seen = []

    def network(x):
        seen.append(x)
        scores = torch.zeros_like(x)
        scores[:, :, 0] = 1
        return scores

    x = torch.rand(1, 1, 4, 3, 2)
    found = MirroredInferer(SimpleInferer(), axes)(x, network)
    assert len(seen) == count and len({tuple(image.flatten().tolist()) for image in seen}) == count
    expected = torch.zeros_like(x)
    expected[:, :, 0] = 0.5 if 0 in axes else 1
    expected[:, :, -1] = 0.5 if 0 in axes else 0
    assert torch.allclose(found, expected)


def test_inference_and_evaluation_with_several_networks_and_mirror_images(members, phantoms, tmp_path):
    """Maps differ from either network's own, and the record names both files."""
    patches = ["ensemble.json", "mirrored.json"]
    paths = {"dataset_dir": members[0] / "datalist.json", "members": [str(folder / "model.pt") for folder in members]}
    run("infer", ["inference.json", *patches], **paths, output_dir=tmp_path / "both")
    maps = {}
    for name, folder in (("first", members[0]), ("both", None)):
        if folder:
            source = members[0] / "datalist.json"
            run("infer", ["inference.json"], dataset_dir=source, output_dir=tmp_path / name, ckpt_dir=folder)
        (_, first), *_ = [(f, read_labels(f, CLASSES)[0]) for f in sorted((tmp_path / name).glob("*_seg.nii.gz"))]
        maps[name] = first
    assert maps["both"].shape == maps["first"].shape and (maps["both"] != maps["first"]).any()
    datalist = shutil.copy(members[0] / "datalist.json", tmp_path / "datalist.json")
    given = {**paths, "dataset_dir": phantoms, "datalist": datalist, "output_dir": tmp_path / "scored"}
    run("evaluate", ["train.json", "evaluate.json", *patches], **given)
    for folder in ("both", "scored"):
        about = json.loads((tmp_path / folder / "metrics.json").read_text())["about"]
        files = [text.split(",")[0] for key, text in about if key == "Checkpoint"]
        assert files == paths["members"]


def test_an_ensemble_of_files_that_are_not_there(members, tmp_path):
    given = {"members": [str(members[0] / "model.pt"), str(tmp_path / "model.pt")], "output_dir": tmp_path}
    message = refusal(
        run, "infer", ["inference.json", "ensemble.json"], dataset_dir=members[0] / "datalist.json", **given
    )
    assert f"{tmp_path / 'model.pt'}: no weights there yet" in message


def test_shipped_weights_are_taken_where_none_were_trained(tmp_path):
    trained, shipped = tmp_path / "model.pt", tmp_path / "shipped.json"
    assert find_weights(tmp_path, "shipped.json") == find_weights(tmp_path) == str(trained)  # told to be missing
    (tmp_path / "other.pt").touch()
    assert "say --weights_file" in refusal(find_weights, str(tmp_path / "other.pt"))
    shipped.touch()
    assert find_weights(tmp_path, "shipped.json") == str(shipped)
    trained.touch()
    assert find_weights(tmp_path, "shipped.json") == str(trained)


def test_the_average_of_the_weights_is_what_is_kept(phantoms, tmp_path):
    """With a rate of 1 it would be the network itself; with the patch's it lags behind."""
    given = {**TINY, "dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path, "epochs": 1}
    run("train", ["train.json", "strong.json"], **given)
    kept, last = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("model", "last"))
    assert all(torch.equal(value, last["averaged"][name]) for name, value in kept.items())
    assert not all(torch.equal(value, last["model"][name]) for name, value in kept.items())
