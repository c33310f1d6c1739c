"""The bundle in an application of the MONAI Deploy App SDK, as `integration/monai_deploy.py` runs and compares it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BUNDLE, ROOT

SCRIPT = Path("integration") / "monai_deploy.py"
APP = Path("integration") / "deploy" / "app.py"
SERIES = Path("bundle") / "scripts" / "series" / "writer.py"
CHAIN = Path("bundle") / "configs" / "inference.json"
WORK = ROOT / "integration" / ".environments" / "monai_deploy"
ROWS = 7  # of its table
BROKEN = {  # what is broken: the file, its words and what takes their place, what is then seen
    "slices in the wrong order": (
        SERIES,
        {"+ index * matrix": "+ (volume.shape[2] - 1 - index) * matrix"},
        "voxels differ",
    ),
    "a series in another place": (SERIES, {"matrix[:3, 3] + index": "matrix[:3, 3] + 1 + index"}, "is on no slice"),
    "the patch not read": (APP, {'sorted(names - {"inference", "metadata"})': "[]"}, "voxels differ"),
    "the axis of channels added while loading": (
        CHAIN,
        {'"image_only": true': '"image_only": true, "ensure_channel_first": true', "EnsureChannelFirstd": "Identityd"},
        "to have 1 channels",
    ),
}


def test_the_guide_shows_the_application():
    page = (BUNDLE / "docs" / "how-to" / "monai-deploy.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert shown == (ROOT / APP).read_text(encoding="utf-8")


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_here_is_still_in_the_files(what):
    file, changes, _ = BROKEN[what]
    source = (ROOT / file).read_text(encoding="utf-8")
    assert all(words in source for words in changes)


PREPARE = """
import sys
from argparse import Namespace
from pathlib import Path
sys.path.insert(0, "integration")
import monai_deploy
folder = Path(sys.argv[1])
given = Namespace(weights=folder / "weights.pt", patch=Path("bundle/configs/demo.json"))
print(*monai_deploy.prepare(given, folder / "work"))
"""


def test_the_bundle_is_prepared_with_given_weights(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"weights")
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "work/bundle"), "['configs/inference.json','configs/demo.json']"]
    assert (tmp_path / "work/bundle/models/model.pt").read_bytes() == b"weights"


@pytest.fixture
def clone(tmp_path) -> Path:
    """What the script needs of this clone, to be broken. The environment has 1.8 GB, so it is not made here."""
    if not (WORK / "venv" / "installed.txt").is_file():
        pytest.skip(f"needs the environment of MONAI Deploy; `python {SCRIPT}` makes it, from the network")
    for folder in ("bundle", "integration", ".ci"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(".environments", "__pycache__"))
    return tmp_path


def run(clone: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--work", WORK, *options]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_application_gives_the_labels_of_run_inference(clone):
    """Minutes: a small training, and seven starts of the application."""
    done = run(clone)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{ROWS} of {ROWS} proved" in done.stdout and done.stdout.count(": 0 of 207360 voxels differ") == ROWS - 1


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_seen(what, clone):
    """With the weights that the test before has left."""
    weights, (file, changes, seen) = WORK / "trained" / "model.pt", BROKEN[what]
    if not weights.is_file():
        pytest.skip(f"needs the weights that `python {SCRIPT}` leaves in {weights}")
    source = (clone / file).read_text(encoding="utf-8")
    for words, others in changes.items():
        source = source.replace(words, others)
    (clone / file).write_text(source, encoding="utf-8")
    done = run(clone, "--weights", str(weights), "--patch", "bundle/configs/demo.json")
    assert done.returncode == 1 and seen in done.stdout + done.stderr
