"""Networks computed with OpenVINO: the same scores, converted once, and nothing reported to anybody."""

import logging
import os
import subprocess
import sys
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import BUNDLE, segment
from helpers import refusal
from monai.inferers import SlidingWindowInferer

from scripts.doubt.lowest_level import LowestLevel
from scripts.inference import openvino
from scripts.inference.ensemble import Ensemble
from scripts.inference.fastest import FastestInferer
from scripts.inference.openvino import OpenVinoInferer, digest_of
from scripts.networks.improved_unet import ImprovedUNet
from scripts.networks.unet import UNet

SIGNALLED = """
import gc, os, signal, torch
os.makedirs(os.environ["HOME"])
from scripts.inference.openvino import OpenVinoInferer
from scripts.networks.unet import UNet
network = UNet(spatial_dims=2, in_channels=1, out_channels=2, widths=(4, 8)).eval()
for half in (False, True):
    OpenVinoInferer(half, ckpt_dir={folder!r})(torch.rand(1, 1, 16, 16), network)
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGTERM)
"""
installed = pytest.mark.skipif(openvino.is_missing(), reason="OpenVINO is not installed")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ImprovedUNet(features=4, levels=3, out_channels=3, dropout=0.0).eval()


@installed
def test_scores_are_those_of_pytorch(network, tmp_path):
    x = torch.rand(2, 1, 16, 16, 8)
    infer = OpenVinoInferer(False, ckpt_dir=str(tmp_path))
    with torch.no_grad():
        assert torch.allclose(infer(x, network), network(x), atol=1e-4)
        other = deepcopy(network)
        torch.nn.init.normal_(next(other.parameters()))
        both = Ensemble([network, other]).eval()
        assert torch.allclose(infer(x, both), both(x), atol=1e-4)
        windows = SlidingWindowInferer((16, 16, 8), sw_batch_size=3)
        wide = torch.rand(1, 1, 24, 16, 8)
        found = OpenVinoInferer(False, windows, ckpt_dir=str(tmp_path))(wide, network)
        assert torch.allclose(found, windows(wide, network), atol=1e-4)


@installed
def test_slices_too(tmp_path):
    flat = UNet(spatial_dims=2, in_channels=3, out_channels=1, widths=(4, 8)).eval()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(OpenVinoInferer(False, ckpt_dir=str(tmp_path))(x, flat), flat(x), atol=1e-4)


@installed
def test_a_network_is_converted_once_for_each_size_and_again_if_its_weights_change(network, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def conversions(size) -> int:
        caplog.clear()
        OpenVinoInferer(False, ckpt_dir=str(tmp_path))(torch.rand(1, 1, *size), network)
        return caplog.text.count("converting the network")

    assert [conversions(size) for size in ((16, 16, 8), (16, 16, 8), (8, 16, 8), (16, 16, 8))] == [1, 0, 1, 0]
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    assert conversions((16, 16, 8)) == 1
    kept = tmp_path / ".openvino"
    assert len(list(kept.glob("*.xml"))) == len(list(kept.glob("*.bin"))) == 3 == len(list(kept.iterdir())) / 2


@installed
def test_where_nothing_can_be_written_it_runs_all_the_same(network, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "models").write_text("no folder")
    OpenVinoInferer(False, ckpt_dir=str(tmp_path / "models"))(torch.rand(1, 1, 16, 16, 8), network)
    assert "the next run converts the network again" in caplog.text


@installed
def test_a_full_disk_costs_no_result_and_a_damaged_file_is_made_anew(network, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    x = torch.rand(1, 1, 16, 16, 8)

    def full(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr("openvino.save_model", full)
        expected = OpenVinoInferer(False, ckpt_dir=str(tmp_path))(x, network)
    assert "not kept (RuntimeError: basic_ios" in caplog.text and not list(tmp_path.rglob("*.xml"))
    OpenVinoInferer(False, ckpt_dir=str(tmp_path))(x, network)
    (kept,) = tmp_path.rglob("*.bin")
    kept.write_bytes(kept.read_bytes()[:100])
    with torch.no_grad():
        assert torch.equal(OpenVinoInferer(False, ckpt_dir=str(tmp_path))(x, network), expected)
    assert "so it counts as missing" in caplog.text and kept.stat().st_size > 100


@installed
def test_a_converted_network_is_on_disk_before_it_has_its_name(network, tmp_path, monkeypatch):
    """After a power cut a file that was not has zeros in it: other weights, and nobody would notice."""
    steps = []
    monkeypatch.setattr(openvino, "flush", lambda file: steps.append(("flush", file.suffix)))
    monkeypatch.setattr(openvino, "replace_file", lambda source, target: steps.append(("name", target.suffix)))
    with torch.no_grad():
        OpenVinoInferer(False, ckpt_dir=str(tmp_path))(torch.rand(1, 1, 16, 16, 8), network)
    assert steps == [("flush", ".bin"), ("name", ".bin"), ("flush", ".xml"), ("name", ".xml")]


@installed
def test_those_who_watch_the_network_see_nothing_of_its_conversion(network, tmp_path):
    x = torch.rand(1, 1, 16, 16, 8)
    with LowestLevel(network) as level, torch.no_grad():
        OpenVinoInferer(False, ckpt_dir=str(tmp_path))(x, network)
        FastestInferer(True, ckpt_dir=str(tmp_path))(x, network)
    assert level.features is None


def test_features_that_are_dropped_are_dropped_by_pytorch(network, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "load_openvino", lambda: None)
    network.train()
    x = torch.rand(1, 1, 16, 16, 8)
    assert torch.equal(OpenVinoInferer(False, ckpt_dir=str(tmp_path))(x, network), network(x))


def test_the_digest_follows_structure_and_weights(network):
    same = deepcopy(network)
    assert digest_of(same) == digest_of(network)
    with torch.no_grad():
        next(same.parameters()).add_(1.0)
    other = ImprovedUNet(features=4, levels=3, out_channels=3, dropout=0.5).eval()
    other.load_state_dict(network.state_dict())
    steeper = deepcopy(network)
    steeper.slope = 0.2  # a setting that neither a layer nor a weight shows
    assert len({digest_of(one) for one in (network, same, other, steeper)}) == 4


def test_where_it_is_not_installed_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "expected those of the extra openvino; pip install openvino" in refusal(OpenVinoInferer, False)


@pytest.mark.programs
@installed
def test_signals_do_no_harm_later_and_nothing_is_reported_to_the_makers(tmp_path):
    """On Linux the package moves the stack that Python's handlers run on; and it would report its import."""
    program = [sys.executable, "-W", "ignore", "-c", SIGNALLED.format(folder=str(tmp_path / "models"))]
    environment = os.environ | {"HOME": str(tmp_path / "home")}
    done = subprocess.run(program, cwd=BUNDLE, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr[-500:]
    assert not list((tmp_path / "home").rglob("openvino*"))  # where it would remember whether it may


@installed
def test_the_label_maps_of_an_inference_are_the_same(trained_copy, tmp_path):
    segment(trained_copy, tmp_path / "plain")
    segment(trained_copy, tmp_path / "made", "openvino.json")
    files = sorted((tmp_path / "plain").glob("*_seg.nii.gz"))
    assert len(files) == 2 and list((trained_copy / "models" / ".openvino").glob("*.xml"))
    for file in files:
        labels, made = (np.asarray(nib.load(tmp_path / folder / file.name).dataobj) for folder in ("plain", "made"))
        assert (labels == made).mean() > 0.999
