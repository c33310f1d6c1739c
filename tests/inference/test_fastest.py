"""The choice of the fastest way to compute a network."""

import json
import logging

import pytest
import torch
from conftest import CONFIGS
from helpers import refusal
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from torch import nn

from scripts.inference import fastest, openvino
from scripts.inference.fastest import FastestInferer, measure
from scripts.networks.improved_unet import ImprovedUNet

X = torch.rand(1, 1, 16, 16, 8)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ImprovedUNet(features=2, levels=3, out_channels=3, dropout=0.0).eval()


@pytest.fixture
def clock(monkeypatch):
    """A clock that the ways put forward."""
    now = [0.0]
    monkeypatch.setattr(fastest.time, "perf_counter", lambda: now[0])
    return now


def way(clock, seconds, scores):
    def run(x):
        clock[0] += seconds
        return scores

    return run


def test_the_seconds_of_each_way_are_taken_after_a_first_call(clock):
    scores = torch.rand(1, 3, 4, 4, 4)
    assert measure({"a": way(clock, 2.0, scores), "b": way(clock, 1.0, scores)}, X) == {"a": 2.0, "b": 1.0}


def test_a_way_that_gives_other_labels_or_fails_is_not_used(clock, caplog):
    caplog.set_level(logging.INFO)
    scores = torch.rand(1, 3, 4, 4, 4)

    def broken(x):
        raise RuntimeError("no kernel")

    found = measure({"a": way(clock, 2.0, scores), "b": way(clock, 1.0, -scores), "c": broken}, X)
    assert found == {"a": 2.0} and "b: not used, only" in caplog.text and "c: not used (RuntimeError" in caplog.text
    with pytest.raises(RuntimeError, match="no kernel"):
        measure({"a": broken}, X)


def test_labels_of_one_map_are_compared_where_it_is_above_zero(clock):
    scores = torch.rand(1, 1, 4, 4) - 0.5
    assert set(measure({"a": way(clock, 1.0, scores), "b": way(clock, 1.0, 2 * scores)}, X)) == {"a", "b"}
    assert set(measure({"a": way(clock, 1.0, scores), "b": way(clock, 1.0, -scores)}, X)) == {"a"}


def test_without_openvino_nothing_is_timed(network, tmp_path, monkeypatch):
    monkeypatch.setattr(fastest, "is_missing", lambda: True)
    monkeypatch.setattr(fastest, "measure", lambda *_: 1 / 0)
    assert torch.equal(FastestInferer(False, ckpt_dir=str(tmp_path))(X, network), network(X))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("order", [["openvino.json", "fast.json"], ["fast.json", "openvino.json"]])
def test_both_patches_on_inference_fit_together(order, monkeypatch):
    monkeypatch.setattr(openvino, "load_openvino", lambda: None)
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in ("inference.json", *order)])
    kind = FastestInferer if order[-1] == "fast.json" else openvino.OpenVinoInferer
    assert type(parser.get_parsed_content("inferer")) is kind
    assert parser["looks::inferer::int8"] == parser["inferer::int8"] == "@int8"


def test_int8_is_not_both_demanded_and_chosen():
    assert "leave one of the two out" in refusal(FastestInferer, False, int8=True)


@pytest.mark.skipif(openvino.is_missing(), reason="OpenVINO is not installed")
def test_nothing_is_chosen_on_an_input_in_which_nothing_is_found(tmp_path, monkeypatch):
    network = nn.Conv3d(1, 2, 1).eval()
    with torch.no_grad():
        network.weight[:, 0] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
        network.bias[:] = torch.tensor([0.5, 0.0])
    infer = FastestInferer(False, ckpt_dir=str(tmp_path))
    blind = {"PyTorch": network, "blind": lambda x: torch.cat([x * 0 + 1, x * 0], 1)}
    monkeypatch.setattr(infer, "ways", lambda *_: blind)
    empty, full = torch.zeros(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4)
    with torch.no_grad():
        for x in (empty, full, empty):
            assert torch.equal(infer(x, network), network(x))
    assert set(json.loads((tmp_path / ".openvino" / "fastest.json").read_text()).values()) == {"PyTorch"}


@pytest.mark.skipif(openvino.is_missing(), reason="OpenVINO is not installed")
def test_the_choice_is_remembered_until_something_changes(network, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    timed = []

    def times(ways, example):
        timed.append(list(ways))
        return {name: float(name != "OpenVINO") for name in ways}

    monkeypatch.setattr(fastest, "measure", times)

    def run(half=False):
        with torch.no_grad():
            return FastestInferer(half, SimpleInferer(), ckpt_dir=str(tmp_path))(X, network)

    with torch.no_grad():
        assert torch.allclose(run(), network(X), atol=1e-4)
    assert "the network runs with OpenVINO, the fastest way here" in caplog.text
    run()
    assert timed == [["PyTorch", "OpenVINO"]]
    run(half=True)
    assert timed[1:] == [["PyTorch", "OpenVINO", "PyTorch in bfloat16", "OpenVINO in bfloat16"]]
    kept = tmp_path / ".openvino" / "fastest.json"
    assert set(json.loads(kept.read_text()).values()) == {"OpenVINO"}
    kept.write_text("[")
    run()
    assert len(timed) == 3
    network.train()
    run()
    assert len(timed) == 3
