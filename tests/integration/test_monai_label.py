"""The bundle in MONAI Label's server, which `integration/monai_label.py` starts and asks."""

import os
import subprocess

import pytest
from conftest import ROOT

SCRIPT = ROOT / "integration" / "monai_label.py"
ENVIRONMENT = ROOT / "integration" / ".environments" / "monai_label" / "0.8.5" / "venv"


@pytest.mark.slow
def test_the_bundle_works_in_the_server(tmp_path):
    """Ten minutes and more. The environment has some gigabytes, so it is not a test that fetches it."""
    if not (ENVIRONMENT / "installed.txt").is_file():
        pytest.skip("needs the server's environment; `python integration/monai_label.py` makes it, from the network")
    python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = subprocess.run([python, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "FAIL" not in done.stdout and " proved" in done.stdout.splitlines()[-1]
