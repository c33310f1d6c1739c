"""The script for a GPU, on a processor and tiny images: every piece runs, and is not run again."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu


@pytest.mark.programs
def test_every_piece_runs_on_a_processor(tmp_path, monkeypatch):
    """Without a compiler's minutes: torch.compile returns the network as it is."""
    line = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--tiny", "--output", str(tmp_path)]
    env = os.environ | {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(line, env=env, check=True)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["piece"] for row in rows} == {"steps", "epoch", "inference", "training", "resume", "processes", "tests"}
    found = {row["row"]: row for row in rows}
    assert found["resumed, over unbroken"]["difference"] == found["the same run twice"]["difference"] == 0
    assert found["pytest -m gpu"]["said"].partition(" in ")[0].split(", ")[0].split()[1] in ("skipped", "passed")
    before = (tmp_path / "gpu.json").read_text()
    monkeypatch.setattr(sys, "argv", line[1:])
    monkeypatch.setattr(gpu, "PIECES", dict.fromkeys(gpu.PIECES))  # nothing that could be run again
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert not ended.value.code and (tmp_path / "gpu.json").read_text() == before
