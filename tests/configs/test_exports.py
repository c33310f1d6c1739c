"""MONAI's own verbs on the shipped files: metadata, network shapes, TorchScript and ONNX, all offline."""

import logging
import shutil

import numpy as np
import pytest
import torch
from conftest import BUNDLE, ROOT, run, workflow
from monai import bundle

SCHEMA = ROOT / "tests" / "schemas" / "meta_schema_20240725.json"
SMALL = {"features": 4, "dropout": 0.0}
FILES = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}
pytestmark = pytest.mark.usefixtures("in_the_bundle")


@pytest.fixture(scope="module")
def checkpoint(phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    run("train", ["train.json"], dataset_dir=phantoms, output_dir=folder, ckpt_dir=folder, epochs=1, **SMALL)
    return folder / "model.pt"


@pytest.fixture(scope="module")
def network(checkpoint):
    made = workflow("infer", ["inference.json"], **SMALL)
    made.initialize()
    net = made.parser.get_parsed_content("network_def")
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    return net.eval()


def test_the_weights_load_by_name_of_the_bundle(checkpoint, network, tmp_path):
    """`monai.bundle.load` and whatever else expects a plain state dict: nobody names a key in the file."""
    root = tmp_path / "bundle"
    shutil.copytree(BUNDLE, root, ignore=shutil.ignore_patterns("models", "output", "predictions", "__pycache__"))
    (root / "models").mkdir()
    shutil.copyfile(checkpoint, root / "models" / "model.pt")
    override = {"features": 4, "dropout": 0.0}
    found = bundle.load("bundle", bundle_dir=str(tmp_path), workflow_type="inference", net_override=override)
    assert type(found).__name__ == "ImprovedUNet"
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_metadata_is_valid():
    bundle.verify_metadata(meta_file=FILES["meta_file"], filepath=str(SCHEMA))


@pytest.mark.slow
def test_full_size_network_in_and_out():
    bundle.verify_net_in_out(net_id="network_def", **FILES)


def test_network_in_and_out(tmp_path):
    """The same check at the size of the tests, where it takes a moment."""
    meta = (BUNDLE / "configs" / "metadata.json").read_text().replace("[128, 128, 64]", "[32, 32, 32]")
    (tmp_path / "metadata.json").write_text(meta)
    files = {**FILES, "meta_file": str(tmp_path / "metadata.json")}
    bundle.verify_net_in_out(net_id="network_def", **files)


@pytest.mark.parametrize("shape", [(1, 1, 32, 32, 16), (2, 1, 48, 32, 32)])
def test_torchscript_export_equals_the_network(shape, checkpoint, network, tmp_path):
    file = tmp_path / "model.ts"
    bundle.ckpt_export(net_id="network_def", filepath=str(file), ckpt_file=str(checkpoint), **FILES, **SMALL)
    exported = torch.jit.load(file)
    image = torch.randn(shape)
    with torch.no_grad():
        assert torch.allclose(exported(image), network(image), atol=1e-4)


def test_onnx_export_equals_the_network(checkpoint, network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    bundle.onnx_export(
        net_id="network_def", filepath=str(file), ckpt_file=str(checkpoint),
        input_shape=[1, 1, 32, 32, 32], **FILES, **SMALL,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    image = torch.randn(1, 1, 32, 32, 32)
    output = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    with torch.no_grad():
        assert np.abs(output - network(image).numpy()).max() < 1e-4
