"""Networks in int8: kept if Dice stays, refused if not, and found by the inference."""

import importlib.util
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import run
from helpers import refusal
from monai.inferers import SimpleInferer, SliceInferer
from torch import nn

from scripts.inference import openvino
from scripts.inference.ensemble import Ensemble
from scripts.inference.fastest import INT8, FastestInferer
from scripts.inference.openvino import OpenVinoInferer
from scripts.inference.quantise import Quantisation

pytestmark = pytest.mark.skipif(
    openvino.is_missing() or importlib.util.find_spec("nncf") is None, reason="needs OpenVINO and NNCF"
)
NAMES = ["background", "bright"]


class Threshold(nn.Module):
    """A network that finds the voxels above a half, or above another value."""

    def __init__(self, value: float = 0.5):
        super().__init__()
        self.features, self.scores = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.features.weight.fill_(1.0)
            self.features.bias.zero_()
            self.scores.weight[0], self.scores.weight[1] = 0.0, 0.25
            self.scores.bias[:] = torch.tensor([value, 0.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(torch.relu(self.features(x)))


def cases(count: int, low: float, high: float, threshold: float, outlier: float = 0.0) -> list[dict]:
    random = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        label = (torch.rand(1, 16, 16, generator=random) > 0.5).float()
        image = low + (high - low) * label
        image[0, 0, 0], label[0, 0, 0] = outlier, float(outlier > threshold)
        found.append({"image": image, "label": label})
    return found


def quantisation(folder, network=None, data=None, inferer=None) -> Quantisation:
    data = data or cases(4, 0.0, 1.0, 0.5)
    return Quantisation((network or Threshold()).eval(), inferer or SimpleInferer(), data, data, NAMES, str(folder))


def test_a_network_that_stays_right_is_kept_and_found(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    network, x = Threshold().eval(), torch.stack([case["image"] for case in cases(3, 0.0, 1.0, 0.5)])
    taken = OpenVinoInferer(False, ckpt_dir=str(tmp_path), int8=True)
    message = refusal(taken, x, network)
    assert "no int8 network of these weights for inputs of 1x16x16" in message and "configs/quantise.json" in message
    assert INT8 not in FastestInferer(False, ckpt_dir=str(tmp_path)).ways(network, x[:1])
    quantisation(tmp_path, network).run()
    assert "mean Dice 1.0000 in place of 1.0000 on 4 validation cases" in caplog.text
    assert torch.equal(taken(x, network).argmax(1), network(x).argmax(1))
    kept = next((tmp_path / ".openvino").glob("*_int8.xml")).read_text()
    assert "FakeQuantize" in kept or 'element_type="i8"' in kept
    ways = FastestInferer(False, ckpt_dir=str(tmp_path)).ways(network, x[:1])
    assert torch.equal(ways[INT8](x).argmax(1), network(x).argmax(1))


def test_without_any_class_there_is_no_dice_to_compare(tmp_path):
    data = [{**case, "label": torch.zeros(1, 16, 16)} for case in cases(2, 0.0, 1.0, 0.5)]
    assert "no class in the labels of the 2 validation cases" in refusal(quantisation(tmp_path, data=data).run)


def test_a_network_that_gets_worse_is_refused_and_not_kept(tmp_path):
    """One voxel is so bright that the steps of eight bits are coarser than what tells the classes apart."""
    data = cases(4, 0.49, 0.51, 0.5, outlier=1000.0)
    message = refusal(quantisation(tmp_path, data=data).run)
    assert "expected a fall of at most 0.005 of the mean and 0.01 of a class" in message and "not kept" in message
    assert not list(tmp_path.rglob("*_int8.xml"))


def test_members_and_slices(tmp_path):
    """Each member of an ensemble has a file of its own; a recipe of slices gives its network one slice at a time."""
    both = Ensemble([Threshold(0.4), Threshold(0.6)])
    volumes = [{key: torch.stack([value] * 3, -1) for key, value in case.items()} for case in cases(2, 0.0, 1.0, 0.5)]
    slices = SliceInferer(spatial_dim=2, roi_size=(16, 16), sw_batch_size=2)
    quantisation(tmp_path, both, volumes, slices).run()
    assert len(list((tmp_path / ".openvino").glob("*_int8.xml"))) == 2
    x = volumes[0]["image"][None]
    found = OpenVinoInferer(False, slices, ckpt_dir=str(tmp_path), int8=True)(x, both.eval())
    assert torch.equal(found.argmax(1), slices(x, both).argmax(1))


def test_ensembles_of_ensembles(tmp_path):
    nested = Ensemble([Ensemble([Threshold(0.4), Threshold(0.6)]), Threshold(0.5)])
    quantisation(tmp_path, nested).run()
    x = cases(1, 0.0, 1.0, 0.5)[0]["image"][None]
    taken = OpenVinoInferer(False, ckpt_dir=str(tmp_path), int8=True)
    assert taken.has(nested, x) and torch.equal(taken(x, nested.eval()).argmax(1), nested(x).argmax(1))


def test_a_class_that_no_case_has_is_left_out_of_the_mean(tmp_path):
    quantised = quantisation(tmp_path)
    quantised.class_names = [*NAMES, "never drawn"]
    found, _ = quantised.dice([lambda x: Threshold()(torch.from_numpy(x))[None].detach().numpy()])
    assert found == {"bright": 1.0}


def test_a_network_that_can_not_be_written_is_not_called_kept(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / ".openvino").write_text("no folder")
    assert "the converted network is not kept" in refusal(quantisation(tmp_path).run)
    assert "kept in" not in caplog.text


def test_without_training_cases(tmp_path):
    quantised = quantisation(tmp_path)
    quantised.images = []
    assert "no training cases" in refusal(quantised.run)


@pytest.mark.programs
def test_an_inference_in_int8(phantoms, tmp_path, monkeypatch):
    """From a training to label maps: those of float32, but for a few voxels."""
    monkeypatch.setattr("scripts.inference.quantise.MEAN_FALL", 1.0)  # these weights are hardly trained
    monkeypatch.setattr("scripts.inference.quantise.CLASS_FALL", 1.0)
    paths = {"dataset_dir": phantoms, "ckpt_dir": tmp_path / "models", "datalist": tmp_path / "datalist.json"}
    run("train", ["train.json"], **paths, output_dir=tmp_path / "run", epochs=2)
    run("evaluate", ["train.json", "evaluate.json", "quantise.json"], **paths, output_dir=tmp_path / "run")
    maps = {}
    for name, chosen in {"float32": {}, "int8": {"int8": True}}.items():
        given = {"dataset_dir": phantoms, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / name}
        run("infer", ["inference.json", "openvino.json"], **given, **chosen, pictures=False)
        files = sorted((tmp_path / name).glob("*_seg.nii.gz"))
        maps[name] = np.stack([np.asarray(nib.load(file).dataobj) for file in files])
    either = (maps["float32"] > 0) | (maps["int8"] > 0)
    assert (maps["float32"] == maps["int8"])[either].mean() > 0.95
