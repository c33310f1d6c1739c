"""Training from given weights: what is copied, which class keeps which channel, and what a resumed run asks for."""

import json
import logging
import shutil

import pytest
import torch
from checkpoint_samples import INFO, NAMES, network
from conftest import CONFIGS, run, workflow
from helpers import refusal
from monai.bundle import ConfigParser

from scripts.networks.growth import growing_axes
from scripts.training.checkpoint_files import read_checkpoint, write_checkpoint
from scripts.training.pretrained import copy_weights, match_classes
from scripts.training.weights import read_weights
from scripts.training.weights_info import write_ensemble, write_weights

ENTRIES = {name: entry for name, entry in json.loads((CONFIGS / "networks.json").read_text()).items() if name[0] != "_"}
OLD, NEW = ["background", "body", "bladder", "prostate"], ["background", "prostate", "body", "bladder"]
NARROWER = {"head_width": 64, "pyramid_width": 32}


def narrowed(entry: dict) -> dict:
    """An entry of networks.json with widths that cost little."""
    widths = {
        key: [max(16, width // 8) for width in value]
        for key, value in entry.items()
        if key in ("widths", "features", "filters", "channels") and isinstance(value, list)
    }
    return {**entry, **widths, **{key: value for key, value in NARROWER.items() if key in entry}}


def build(name: str, out_channels: int = 4, in_channels: int = 1, seed: int = 0) -> torch.nn.Module:
    knobs = {"spatial_dims": 2, "in_channels": in_channels, "out_channels": out_channels, "features": 4}
    content = narrowed(json.loads(json.dumps(ENTRIES[name])))
    torch.manual_seed(seed)
    parser = ConfigParser({**knobs, "dropout": 0.0, "encoder_weights": None, "network_def": content})
    return parser.get_parsed_content("network_def").eval()


def transfer(name: str, old: list[str] | None, new: list[str], given: torch.nn.Module, into: torch.nn.Module):
    """As a training does it, without its configuration."""
    classes = growing_axes(lambda count: build(name, count), len(new))
    channels = growing_axes(lambda count: build(name, len(new), count), 1)
    return copy_weights(into, given.state_dict(), classes, channels, old, new)


@pytest.mark.parametrize("name", list(ENTRIES))
def test_a_reordered_list_gives_the_same_scores_in_the_new_order(name):
    """Of equal length, so no shape tells anything; each network by name."""
    given, into = build(name), build(name, seed=1)
    x = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        given.train()(x)  # running statistics of its own for every channel
        given.eval()
    copied = transfer(name, OLD, NEW, given, into)
    assert not copied.part and not copied.afresh and not copied.unused
    with torch.no_grad():
        before, after = given(x), into(x)
    order = [OLD.index(label) for label in NEW]
    detail = before.std(dim=(0, 2, 3)).min()  # of the class whose scores vary least
    assert (before[:, order] - before).abs().max() > detail > 1e-4
    assert (before[:, order] - after).abs().max() < 0.01 * detail


@pytest.mark.parametrize("name", ["improved_unet", "unet_32", "segresnet", "basic_unet"])
def test_a_class_keeps_its_scores_in_another_list(name):
    """Both a shorter list and a longer one; the scores of the others are of the network before."""
    given = build(name)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    for new in (["background", "prostate"], ["background", "rectum", "prostate", "bones", "femur", "bladder"]):
        into = build(name, len(new), seed=1)
        fresh = {tensor: value.clone() for tensor, value in into.state_dict().items()}
        copied = transfer(name, OLD, new, given, into)
        with torch.no_grad():
            for label in {*OLD} & {*new}:
                assert torch.allclose(given(x)[:, OLD.index(label)], into(x)[:, new.index(label)], atol=1e-5)
        assert bool(copied.part) is (len(new) > 2) and not copied.afresh
        for tensor in copied.part:
            for label in {*new} - {*OLD}:
                place = new.index(label)
                assert torch.equal(into.state_dict()[tensor][place], fresh[tensor][place])


def test_more_channels_of_the_image_keep_the_first():
    given, into = build("improved_unet"), build("improved_unet", in_channels=2, seed=1)
    copied = transfer("improved_unet", OLD, OLD, given, into)
    (entry,) = copied.part
    assert entry == "encoder.0.entry.0.weight" and not copied.afresh
    before, after = given.state_dict()[entry], into.state_dict()[entry]
    assert torch.equal(after[:, :1], before) and after.shape[1] == 2
    back = build("improved_unet", seed=3)
    copied = transfer("improved_unet", OLD, OLD, into, back)
    assert entry in copied.whole and torch.equal(back.state_dict()[entry], before)


@pytest.mark.parametrize(
    "old, new, before, now, expected",
    [
        (OLD, NEW, 4, 4, [(0, 0), (1, 3), (2, 1), (3, 2)]),
        (OLD, ["background", "prostate"], 4, 2, [(0, 0), (1, 3)]),
        (OLD, ["left", "right"], 4, 2, []),
        (["background", "tumour"], ["background", "tumour"], 1, 2, [(1, 0)]),
        (["background", "tumour"], ["background", "cyst", "tumour"], 1, 3, [(2, 0)]),
        (["background", "tumour"], ["background", "tumour"], 2, 1, [(0, 1)]),
        (None, OLD, 4, 4, [(0, 0), (1, 1), (2, 2), (3, 3)]),
        (None, OLD, 3, 4, []),
        (OLD, NEW, 7, 7, [(i, i) for i in range(7)]),  # channels that are no classes
    ],
)
def test_classes_are_matched_by_name(old, new, before, now, expected):
    """A single channel is the foreground of two classes; without names the position counts, if the number is the
    same."""
    assert match_classes(old, new, before, now) == expected


def test_counters_and_precision():
    """Shipped weights may be in half precision; a counter is no weight and has no axes."""
    given, into = build("unet_32"), build("unet_32", seed=1)
    weights = {name: v.half() if v.is_floating_point() else v + 7 for name, v in given.state_dict().items()}
    copy_weights(into, weights, {}, {}, OLD, OLD)
    for name, value in into.state_dict().items():
        assert value.dtype == given.state_dict()[name].dtype and torch.equal(value, weights[name].to(value.dtype))
    assert any(not value.is_floating_point() for value in weights.values())


# in a configuration

SMALL = {"class_names": OLD, "network_def::levels": 3, "network_def::features": 1}


def start(folder, file, caplog=None, **overrides):
    """The component of train.json, and the network that it has filled."""
    given = {**SMALL, "ckpt_dir": folder / "new", "output_dir": folder / "out", "dataset_dir": folder, **overrides}
    made = workflow("train", ["train.json"], pretrained=file, **given)
    made.initialize()
    component = made.unwrapped(lambda: made.parser.get_parsed_content("pretrained_weights"))
    return component, made.parser.get_parsed_content("network_def")


@pytest.fixture
def file(tmp_path):
    """The weights of a tiny network for four classes, with their description."""
    made = network(seed=5, out_channels=4)
    write_weights(made.state_dict(), {**INFO, "class_names": OLD, "ranges": None}, tmp_path / "given" / "model.pt")
    return tmp_path / "given" / "model.pt"


def lines(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.name == "scripts.training.pretrained"]


def test_one_line_says_what_was_copied(file, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, made = start(tmp_path, file, class_names=[*OLD, "rectum"], in_channels=2)
    (line,) = lines(caplog)
    total = len(made.state_dict())
    assert (
        f"{file}, trained on phantoms (epoch 7, validation Dice 0.812): {total - 7} of {total} tensors copied" in line
    )
    assert (
        "7 in part (encoder.0.entry.0.weight, segmentations.0.weight" in line and "and 1 more), 0 start afresh" in line
    )
    assert len(line.splitlines()) == 1


def test_without_names_the_number_counts(file, tmp_path, caplog):
    """As a file of another program, a plain state dict and no description."""
    caplog.set_level(logging.INFO)
    file.with_suffix(".json").unlink()
    _, made = start(tmp_path, file, class_names=NEW)
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in read_weights(file).networks[0].items())
    assert any("its class names are not known; its classes are taken to be the same" in line for line in lines(caplog))
    caplog.clear()
    start(tmp_path, file, class_names=[*OLD, "rectum"])
    assert any("its classes are 4, not 5: they start afresh" in line for line in lines(caplog))
    assert any("6 start afresh (segmentations.0.weight" in line for line in lines(caplog))


def test_the_first_of_several_networks_and_files_of_older_versions(file, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    weights = [network(seed=seed, out_channels=4).state_dict() for seed in (6, 7)]
    info = {"class_names": OLD, "trained_on": "two"}
    write_ensemble(weights, info, tmp_path / "several" / "both.json")
    _, made = start(tmp_path, tmp_path / "several" / "both.json")
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in weights[0].items())
    assert any("holds 2 networks; training starts from the first" in line for line in lines(caplog))
    old = tmp_path / "old.pt"
    write_checkpoint({"model": weights[1], "info": {"class_names": NEW}}, old)
    _, made = start(tmp_path, old)
    place = made.state_dict()["segmentations.0.bias"]
    assert torch.equal(place, weights[1]["segmentations.0.bias"][[NEW.index(label) for label in OLD]])


def test_files_that_are_of_no_use_are_refused(file, tmp_path, caplog):
    other = tmp_path / "other.pt"
    torch.save({"a.weight": torch.rand(2, 2), "steps": torch.tensor(3)}, other)
    message = refusal(start, tmp_path, other)
    assert str(other) in message and "none of its 2 tensors fits ImprovedUNet" in message and "a.weight" in message
    flat = network(spatial_dims=2, levels=3)
    assert "no such file" in refusal(start, tmp_path, tmp_path / "none.pt")
    message = refusal(start, tmp_path, file, ckpt_dir=file.parent)
    assert "would replace the weights that it starts from" in message and "--ckpt_dir" in message
    write_weights(flat.state_dict(), {"class_names": NAMES}, tmp_path / "flat.pt")
    caplog.set_level(logging.INFO)
    start(tmp_path, tmp_path / "flat.pt")  # norms fit; the kernels of slices do not, and the line says so
    assert any("start afresh (encoder.0.entry.0.weight" in line for line in lines(caplog))


def test_classes_that_can_not_be_found_must_be_the_same(tmp_path):
    """A network of one's own, whose outputs do not follow from `out_channels`."""
    own = {"network_def": "$monai.networks.layers.Conv['conv', 3](1, len(@class_names), 1)"}
    file, made = tmp_path / "own.pt", torch.nn.Conv3d(1, 4, 1)
    write_weights(made.state_dict(), {"class_names": OLD}, file)
    plain = {"class_names": OLD, "ckpt_dir": tmp_path, "output_dir": tmp_path, "dataset_dir": tmp_path}

    def component(class_names):
        given = workflow("train", ["train.json"], **{**plain, **own, "class_names": class_names}, pretrained=file)
        given.initialize()
        given.unwrapped(lambda: given.parser.get_parsed_content("pretrained_weights"))
        return given.parser.get_parsed_content("network_def")

    assert torch.equal(component(OLD).weight, made.weight)
    message = refusal(component, NEW)
    assert "which can't be matched" in message and "weights of Conv3d belong to a class" in message


def test_another_file_is_refused_by_name_where_a_run_is_resumed(file, phantoms, tmp_path):
    """The same weights in another place are let pass, and the checkpoint wins over them."""
    classes = ["background", "body", "bones", "bladder", "rectum", "prostate"]
    common = {"network_def::levels": 3, "features": 1, "dataset_dir": phantoms, "ckpt_dir": tmp_path / "models"}
    common |= {"output_dir": tmp_path / "out", "class_names": classes, "cache_rate": 0.0}
    run("train", ["train.json"], **common, epochs=1, pretrained=file)
    other, moved = tmp_path / "other.pt", tmp_path / "moved" / "model.pt"
    write_weights(network(seed=9, out_channels=4).state_dict(), {"class_names": OLD}, other)
    shutil.copytree(file.parent, moved.parent)
    before = read_checkpoint(tmp_path / "models" / "last.pt")
    made = workflow("train", ["train.json"], **common, epochs=2, resume=True, pretrained=other)
    made.initialize()
    message = refusal(made.run)
    made.finalize()
    assert f"pretrained was {file}, is {other}" in message and "--resume_changed" in message
    made = workflow("train", ["train.json"], **common, epochs=1, resume=True, pretrained=moved)
    made.initialize()
    made.run()
    made.finalize()
    assert made.parser.get_parsed_content("checkpoints").resumed_from is not None
    now = made.parser.get_parsed_content("network_def").state_dict()
    assert all(torch.equal(value, now[name]) for name, value in before["model"].items())
