"""The bundle as a program uses it from Python: from another folder, with several runs and another bundle beside it.

The program below is a process of its own, which knows nothing of the bundle but its path. It writes what it saw.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import BUNDLE, CONFIGS, TINY, run

from scripts.run import knobs

pytestmark = pytest.mark.programs

PROGRAM = """
import json, logging, sys
from pathlib import Path
from monai.bundle import ConfigWorkflow

bundle, phantoms, tiny = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
seen = {"mistakes": {}}
listeners = list(logging.getLogger().handlers)

def run(name, kind, **knobs):
    made = ConfigWorkflow(f"{bundle}/configs/{name}.json", workflow_type=kind, logging_file=False, **knobs)
    made.initialize()
    try:
        made.run()
    finally:
        made.finalize()
    return made

def mistake(what, *given, **knobs):
    try:
        run(*given, **knobs)
    except Exception as error:
        from scripts.core.errors import find_user_error
        seen["mistakes"][what] = str(find_user_error(error))

trained = {"ckpt_dir": "mine/models", **tiny}
run("train", "train", dataset_dir=phantoms, output_dir="mine/run", epochs=1, **trained)
new = {"dataset_dir": "mine/run/datalist.json", **trained}
mistake("value", "train", "train", dataset_dir=phantoms, output_dir="mine/run", **{**trained, "epochs": 0})
mistake("id", "train", "train", dataset_dir=phantoms, output_dir="mine/run", epoch=2, **trained)
mistake("folder", "train", "train", dataset_dir="nowhere", output_dir="mine/other", **trained)
other = {**trained, "ckpt_dir": "mine"}
mistake("weights", "inference", "inference", dataset_dir=phantoms, output_dir="mine/none", **other)
run("inference", "inference", output_dir="mine/predictions", **new)
run("inference", "inference", output_dir="mine/again", **new)

# two that are alive at the same time
first, second = (
    ConfigWorkflow(f"{bundle}/configs/inference.json", workflow_type="inference", logging_file=False,
                   output_dir=f"mine/{name}", **new)
    for name in ("first", "second")
)
for step in ("initialize", "run", "finalize"):
    for workflow in (first, second):
        getattr(workflow, step)()

seen["left behind"] = {
    "hook": sys.excepthook is not sys.__excepthook__,
    "listeners": logging.getLogger().handlers != listeners,
}
from filelock import FileLock, Timeout
seen["locks"], seen["left behind"]["locks"] = [], []
for file in sorted(map(str, Path("mine").rglob("*.lock"))):
    seen["locks"].append(file)
    try:
        FileLock(file).acquire(timeout=0).lock.release()
    except Timeout:
        seen["left behind"]["locks"].append(file)
plain = ConfigWorkflow(f"{bundle}/configs/inference.json", workflow_type="inference", logging_file=False)
plain.initialize()
seen["weights"] = plain.parser.get_parsed_content("weights_file")
named = ConfigWorkflow(f"{bundle}/configs/train.json", workflow_type="train", logging_file=False,
                       network_def=f"%{bundle}/configs/networks.json::residual_attention_unet")
named.initialize()
seen["networks"] = [type(made.network_def).__name__ for made in (plain, named)]
Path("seen.json").write_text(json.dumps(seen))
"""


def program(code: str, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Another person's program, in a folder of its own; nothing says where the bundle is but its arguments."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (folder / "program.py").write_text(code)
    line = [sys.executable, "-W", "ignore", "program.py", *words]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def used(phantoms, tmp_path_factory) -> Path:
    """The folder of the program after it has run. Its command line looks like one of `monai.bundle` on purpose."""
    folder = tmp_path_factory.mktemp("elsewhere")
    before = {file for file in BUNDLE.rglob("*") if "__pycache__" not in file.parts}
    tiny = {**TINY, "show_progress": False}
    done = program(PROGRAM, folder, "run", str(BUNDLE), str(phantoms), json.dumps(tiny), "--not-of-the-bundle", "1")
    assert done.returncode == 0, done.stderr
    assert {file for file in BUNDLE.rglob("*") if "__pycache__" not in file.parts} == before
    return folder


def test_training_and_inference_from_another_folder(used):
    assert (used / "mine" / "models" / "model.pt").is_file() and (used / "mine" / "run" / "history.csv").is_file()
    assert set(os.listdir(used)) == {"mine", "program.py", "seen.json"}
    written = sorted(file.name for file in (used / "mine" / "predictions").glob("*_seg.nii.gz"))
    assert len(written) == 2


def labels(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: np.asarray(nib.load(file).dataobj) for file in sorted(folder.glob("*_seg.nii.gz"))}


@pytest.mark.parametrize("name", ["again", "first", "second"])
def test_several_runs_in_one_process_give_the_same(name, used):
    """One after the other, and two that are alive at the same time."""
    expected, found = labels(used / "mine" / "predictions"), labels(used / "mine" / name)
    assert found.keys() == expected.keys() and len(expected) == 2
    assert all(np.array_equal(found[case], expected[case]) for case in expected)


def test_a_run_from_the_own_folder_gives_the_same(used, tmp_path):
    given = {"dataset_dir": used / "mine" / "run" / "datalist.json", "ckpt_dir": used / "mine" / "models"}
    run("infer", ["inference.json"], output_dir=tmp_path, **given)
    expected, found = labels(used / "mine" / "predictions"), labels(tmp_path)
    assert found.keys() == expected.keys() and all(np.array_equal(found[case], expected[case]) for case in expected)


@pytest.mark.parametrize(
    ("mistake", "line"),
    [
        ("value", "epochs is 0: expected a whole number from 1"),
        ("id", "epoch: nothing in the configuration uses this id; did you mean epochs?"),
        ("folder", "nowhere: dataset_dir does not exist"),
        ("weights", "mine/model.pt: no weights there yet"),
    ],
)
def test_a_mistake_is_an_exception_and_the_program_goes_on(mistake, line, used):
    assert json.loads((used / "seen.json").read_text())["mistakes"][mistake].startswith(line)


def test_nothing_is_left_behind(used):
    """No hook and no log file of a run, of failed ones neither, and no lock: the program has asked for each."""
    seen = json.loads((used / "seen.json").read_text())
    assert seen["left behind"] == {"hook": False, "listeners": False, "locks": []}
    assert len(seen["locks"]) >= 5


def test_a_workflow_without_any_knob_knows_its_bundle(used):
    seen = json.loads((used / "seen.json").read_text())
    assert seen["weights"] == str(BUNDLE / "models" / "model.pt")
    assert seen["networks"] == ["ImprovedUNet", "ResidualAttentionUNet"]


def test_a_copy_that_is_run_by_the_scripts_of_another_is_told(tmp_path, caplog):
    knobs.warn_of_other_scripts(str(BUNDLE))
    knobs.warn_of_other_scripts(str(tmp_path))
    assert caplog.messages == []
    (tmp_path / "scripts").mkdir()
    knobs.warn_of_other_scripts(str(tmp_path))
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'scripts'}: not used, as {BUNDLE / 'scripts'} is loaded already")


GUIDE = BUNDLE / "docs" / "how-to" / "from-python.md"


def test_the_examples_of_the_guide_run(used, phantoms, tmp_path):
    """In their order and in one program. Only the names of folders are replaced, and knobs that make it tiny."""
    text = GUIDE.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    code = "".join(block for block in blocks if "monai.bundle.load" not in block)  # which another test runs
    replaced = {
        '"BUNDLE/': f'"{BUNDLE}/',
        "epochs=100": "epochs=1, **TINY",
        'output_dir="predictions"': 'output_dir="predictions", ckpt_dir=MODELS, pictures=False, **TINY',
        '"DIR"': "DIR",
    }
    for word, meant in replaced.items():
        assert word in code
        code = code.replace(word, meant)
    names = {"TINY": TINY, "MODELS": str(used / "mine" / "models"), "DIR": str(phantoms)}
    done = program("".join(f"{name} = {value!r}\n" for name, value in names.items()) + code, tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = re.findall(r"It prints `(.+?)`", " ".join(text.split()))
    assert done.stdout.splitlines()[-1] == line
    assert (tmp_path / "run" / "models" / "model.pt").is_file() and len(labels(tmp_path / "predictions")) == 10


BESIDE = """
import os, sys
from monai.bundle import ConfigWorkflow

bundle, *orders = sys.argv[1:]

def ours():
    made = ConfigWorkflow(f"{bundle}/configs/inference.json", workflow_type="inference", logging_file=False)
    made.initialize()
    return type(made.network_def).__module__

def own():
    import scripts.own
    return scripts.own.__name__

def others():
    made = ConfigWorkflow("other/configs/inference.json", workflow_type=None, logging_file=False)
    made.initialize()
    return made.run()[0]

for order in orders:  # each in a process of its own, which has no `scripts` yet
    if os.fork() == 0:
        sys.path.append("own")
        print("found", *(globals()[name]() for name in order.split(",")), flush=True)
        os._exit(0)
    os.wait()
"""
ORDERS = ("own,ours,own", "ours,own,others", "others,ours", "others,ours,others")


@pytest.mark.slow
def test_other_packages_of_the_name_scripts_in_one_process(tmp_path):
    """The program's own, and that of another bundle, loaded before or after."""
    for folder, name in ((tmp_path / "own", "own"), (tmp_path / "other", "theirs")):
        (folder / "scripts").mkdir(parents=True)
        (folder / "scripts" / "__init__.py").touch()
        (folder / "scripts" / f"{name}.py").write_text("def name():\n    return __name__\n")
    (tmp_path / "other" / "configs").mkdir()
    (tmp_path / "other" / "configs" / "inference.json").write_text('{"run": [{"_target_": "scripts.theirs.name"}]}')
    (tmp_path / "other" / "configs" / "metadata.json").write_text("{}")
    done = program(BESIDE, tmp_path, str(BUNDLE), *ORDERS)
    modules = {"own": "scripts.own", "ours": "scripts.networks.improved_unet", "others": "scripts.theirs"}
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("found ")]
    assert said == [[modules[name] for name in order.split(",")] for order in ORDERS], done.stderr


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_patches_for_several_processes_find_the_scripts_from_any_folder(name):
    """They have a list `initialize` of their own; the first steps of it are those of the file that they change."""
    complete = {"evaluate": "train"}.get(name, name)
    first, patch = (json.loads((CONFIGS / f"{file}.json").read_text()) for file in (complete, f"multi_gpu_{name}"))
    assert patch["initialize"][:2] == first["initialize"][:2] and "sys.path" in first["initialize"][0]
