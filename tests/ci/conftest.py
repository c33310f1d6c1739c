"""The scripts in .ci/, and a tiny package made by them, shared by the tests of the package and of the hub."""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, read
from monai.bundle import ConfigParser

KNOBS = {"features": 4, "spatial_size": [32, 32, 32]}


@pytest.fixture(scope="session")
def ci():
    """Imports a script of .ci/ by its name."""
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(ROOT / ".ci"))


@pytest.fixture(scope="session")
def package(ci):
    return ci("package")


@pytest.fixture(scope="session")
def verify(ci):
    return ci("verify")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def collected(package, weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collected") / package.NAME
    package.collect(weights, [weights.with_name("patch.json")], folder)
    return folder
