"""What the scripts that try the bundle in other programs share."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import ROOT
from helpers import save_labels
from nibabel.orientations import io_orientation, ornt_transform

SIZE = (20, 18, 16)


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("integration_common", ROOT / "integration" / "common.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    yield script
    del sys.modules[spec.name]


def test_one_phantom_in_several_orientations(common, tmp_path):
    written = common.write_geometries(tmp_path, SIZE, oblique=True)
    assert set(written) == {*common.ORIENTATIONS, "OBL"} and len(set(common.ORIENTATIONS)) == 4
    first, labels = (nib.load(file) for file in written["LPS"])
    assert len(np.unique(labels.dataobj)) >= 5
    for codes in common.ORIENTATIONS:
        turned = nib.load(written[codes][0])
        assert "".join(nib.aff2axcodes(turned.affine)) == codes
        back = turned.as_reoriented(ornt_transform(io_orientation(turned.affine), io_orientation(first.affine)))
        assert np.array_equal(back.dataobj, first.dataobj) and np.allclose(back.affine, first.affine)
    oblique = nib.load(written["OBL"][0])
    assert np.array_equal(oblique.dataobj, first.dataobj)
    assert np.count_nonzero(np.abs(oblique.affine[:3, :3]) > 0.1) > 3  # no axis of it is one of the room's
    assert np.allclose(np.linalg.norm(oblique.affine[:3, :3], axis=0), np.linalg.norm(first.affine[:3, :3], axis=0))


def test_a_difference_of_one_voxel_or_of_the_place_is_seen(common, tmp_path):
    labels, moved = np.zeros((4, 5, 6)), np.eye(4)
    labels[1, 2, 3], moved[0, 3] = 2, 0.01
    one = save_labels(tmp_path / "a.nii.gz", labels)
    assert common.compare_labels(one, one).none and common.compare_labels(one, one).classes == [0, 2]
    other = labels.copy()
    other[0, 0, 0] = 1
    found = common.compare_labels(save_labels(tmp_path / "b.nii.gz", other), one)
    assert not found.none and found.voxels == 1
    found = common.compare_labels(save_labels(tmp_path / "c.nii.gz", labels, moved), one)
    assert not found.none and found.voxels == 0 and found.affine == pytest.approx(0.01)
    found = common.compare_labels(save_labels(tmp_path / "d.nii.gz", labels[:3]), one)
    assert not found.none and found.voxels is None and "(3, 5, 6)" in found.found


def test_orientations_that_do_not_agree_are_seen(common, tmp_path):
    written = [labels for _, labels in common.write_geometries(tmp_path, SIZE).values()]
    assert common.differing_share(written) == 0
    flipped = np.asarray(nib.load(written[0]).dataobj)[::-1]
    other = save_labels(tmp_path / "a.nii.gz", flipped, nib.load(written[0]).affine)
    assert common.differing_share([*written, other]) > 0.01
    assert common.differing_share([written[0], save_labels(tmp_path / "b.nii.gz", flipped[1:])]) == 1


@pytest.mark.parametrize(("rows", "status"), [([True, True], 0), ([True, False], 1), ([], 1)])
def test_the_status_says_whether_all_was_proved(rows, status, common, capsys):
    proofs = common.Proofs()
    for number, proved in enumerate(rows):
        assert proofs.note(f"thing {number}", proved, "found") is proved
    with pytest.raises(SystemExit) as ended:
        proofs.end()
    assert ended.value.code == status
    assert capsys.readouterr().out.splitlines()[-1] == f"{sum(rows)} of {len(rows)} proved"


def test_a_server_is_ended_with_all_that_it_has_started_after_an_error_too(common, tmp_path):
    """The program writes the number of its own child; both sleep until they are ended."""
    command = [sys.executable, "-c", PARENT]
    log = tmp_path / "log"
    with pytest.raises(RuntimeError), common.running(command, log) as process:
        number = int(common.wait_for(lambda: log.read_text(), 60, "the child", log, every=0.05))
        assert is_running(number) and process.poll() is None
        raise RuntimeError
    assert process.poll() is not None
    common.wait_for(lambda: not is_running(number), 60, "the child's end", log, every=0.05)


PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


def is_running(number: int) -> bool:
    """Whether there is a process of that number that has not ended."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{number}/status")
    return not (status.is_file() and "State:\tZ" in status.read_text())


def test_what_does_not_come_is_not_waited_for_without_end(common, tmp_path):
    log = tmp_path / "log"
    log.write_text("the reason\n")
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        common.wait_for(lambda: False, 0.2, "the server", log, every=0.05)
    assert time.monotonic() - began >= 0.2
    assert str(ended.value).startswith("the server: not within 0 s") and str(ended.value).endswith("the reason")


def test_a_command_that_fails_ends_the_script_with_its_last_words(common, tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('what is wrong')"]
    with pytest.raises(SystemExit) as ended:
        common.run_command(command, tmp_path / "logs" / "log")
    assert "ended with status 1" in str(ended.value) and str(ended.value).endswith("what is wrong")


@pytest.mark.parametrize("script", sorted((ROOT / "integration").glob("*.py")), ids=lambda file: file.name)
def test_every_script_starts_in_a_python_without_packages(script):
    """`-S -I` hides the installed packages, as a Python has it that a fresh clone is tried with."""
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", START, script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


START = """
import runpy, sys
from pathlib import Path
script = Path(sys.argv[1])
sys.path.insert(0, str(script.parent))
sys.argv = [str(script), "--help"]
try:
    runpy.run_path(str(script), run_name="__main__")
except SystemExit as ended:
    sys.exit(ended.code)
"""
