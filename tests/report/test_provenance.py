"""What a report says about the model, the images and the computer it was made with."""

import hashlib
import re

import monai
import torch

from scripts.data import digests
from scripts.report import provenance


def test_digest_is_sha256sums(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digests.sha256_of_files(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert digests.sha256_of_files(tmp_path / "a").startswith("ba7816bf")


def test_model_and_weights(tmp_path):
    network, file = torch.nn.Linear(3, 2), tmp_path / "model.pt"
    info = {"trained_on": "phantoms", "epoch": 4, "score": 0.98765}
    torch.save({"model": network.state_dict(), "info": info}, file)
    lines, found = provenance.of_model(network, file)
    assert dict(lines) == {
        "Model": "Linear, 8 parameters",
        "Trained on": "phantoms (epoch 4, validation Dice 0.9877)",
        "Checkpoint": f"{file}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
    }
    assert found == info


def test_weights_that_carry_nothing(tmp_path):
    network, file = torch.nn.Linear(3, 2), tmp_path / "model.pt"
    torch.save({"model": network.state_dict()}, file)
    lines, found = provenance.of_model(network, file)
    assert dict(lines)["Trained on"] == "unknown data" and found == {}


def test_when_and_where():
    lines = dict(provenance.of_run("cpu", [3.0, 1.0, 1.5]))
    assert lines["Time per case"].startswith("1.50 s median, 3.00 s longest")
    assert f"MONAI {monai.__version__}" in lines["Versions"] and re.search(r"bundle \d+\.\d+\.\d+", lines["Versions"])
    assert lines["Device"].startswith("CPU") and re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d", lines["Date"])
    assert "Time per case" not in dict(provenance.of_run("cpu", []))
