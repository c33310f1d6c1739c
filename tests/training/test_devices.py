"""Training and inference on a GPU, where there is one; the same tests run on the processor."""

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import run
from helpers import rows

from scripts.training.checkpoint_files import read_checkpoint

GPU = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
)
pytestmark = pytest.mark.programs


def trained(device: str, folder, phantoms, **chosen):
    """The weights and the curve of two epochs."""
    paths = {"dataset_dir": phantoms, "output_dir": folder, "ckpt_dir": folder / "models"}
    chosen = {"datalist": folder.parent / "datalist.json", "epochs": 2, "amp": False} | chosen
    run("train", ["train.json"], **paths, **chosen, device=device)
    curve = [float(row["train_loss"]) for row in rows(folder / "history.csv")]
    return read_checkpoint(folder / "models" / "last.pt")["model"], curve


@pytest.fixture(scope="module")
def plain(phantoms, tmp_path_factory):
    """A training on the processor, in float32."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    return *trained("cpu", folder, phantoms), folder


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_device_trains_as_the_processor_does(device, plain, phantoms, tmp_path):
    """The losses of two epochs, as near as another order of the sums allows; in mixed precision near as well."""
    weights, losses, folder = plain
    given = {"datalist": folder.parent / "datalist.json"}
    found, curve = trained(device, tmp_path / "run", phantoms, **given)
    assert curve == pytest.approx(losses, rel=0.02) and set(found) == set(weights)
    if device == "cuda":
        _, curve = trained(device, tmp_path / "half", phantoms, **given, half=True, amp=True)
        assert curve == pytest.approx(losses, rel=0.1)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_run_is_resumed_on_a_device(device, plain, phantoms, tmp_path):
    given = {"datalist": plain[2].parent / "datalist.json"}
    _, whole = plain[:2] if device == "cpu" else trained(device, tmp_path / "whole", phantoms, **given)
    trained(device, tmp_path / "broken", phantoms, **given, epochs=1)
    _, curve = trained(device, tmp_path / "broken", phantoms, **given, resume=True)
    assert curve == pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("patches", [[], ["fast.json"]])
def test_a_device_labels_as_the_processor_does(device, patches, plain, phantoms, tmp_path):
    """The weights of the processor's training; a voxel may change where two classes are equally likely."""
    paths = {"dataset_dir": phantoms, "ckpt_dir": plain[2] / "models", "pictures": False}
    run("infer", ["inference.json"], **paths, output_dir=tmp_path / "cpu", device="cpu")
    run("infer", ["inference.json", *patches], **paths, output_dir=tmp_path / device / "out", device=device)
    files = sorted((tmp_path / "cpu").glob("*_seg.nii.gz"))
    assert files
    for file in files:
        one, other = (np.asarray(nib.load(at).dataobj) for at in (file, tmp_path / device / "out" / file.name))
        either = (one > 0) | (other > 0)
        assert (one == other)[either].mean() > 0.98 if either.any() else not other.any()
