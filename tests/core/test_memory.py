"""Memory that is kept: whether the system is asked for it again."""

import ctypes
import json
import subprocess
import sys

import pytest
from conftest import BUNDLE

from scripts.core import memory
from scripts.core.memory import keep_freed

TENSOR = 36 * 2**20  # bytes; above the 32 MiB from which glibc gives a block back as soon as it is freed
COUNT = """
import ctypes, json, torch
from scripts.core import memory
from scripts.core.memory import keep_freed

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

counted = ctypes.CDLL(None).mallinfo2
counted.restype = Info
if {kept}: keep_freed()
x = torch.rand({tensor} // 4, requires_grad=True)
taken = []
torch.set_num_threads(1)
for _ in range(8):
    x.exp().sin().sum().backward()
    info = counted()
    taken.append((info.arena + info.hblkhd, info.fordblks))
print(json.dumps(taken))
"""


def after_each_step(kept: bool) -> list[tuple[int, int]]:
    """The allocator's own account after each of eight equal steps: bytes that it has of the system, and free ones.

    It counts what was asked for and not how long that took or what the system did with it: the same on a busy machine.
    """
    code = COUNT.format(kept=kept, tensor=TENSOR)
    done = subprocess.run([sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_step_uses_the_memory_that_the_steps_before_it_have_freed():
    """Which hole a block is put into may change from step to step, so some growth is right, but not step by step."""
    if not keep_freed() or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    (*_, last), (*_, without) = after_each_step(True), after_each_step(False)
    assert last[0] < 32 * TENSOR  # eight steps that asked anew for the four tensors of each would have taken more
    assert last[1] >= 2 * TENSOR  # what a step needs is free
    assert without[1] < TENSOR  # without `keep_freed` it is given back


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed() is False


@pytest.fixture
def system(tmp_path, monkeypatch):
    """What a system tells of its memory, in files that a test writes."""
    for name, file in (("CONTAINER", "groups"), ("MACHINE", "meminfo"), ("GROUPS", "own")):
        monkeypatch.setattr(memory, name, tmp_path / file)
    return tmp_path


def tell(system, group, version, limit, used, held) -> None:
    folder = system / "groups" / group
    folder.mkdir(parents=True, exist_ok=True)
    names = memory.GROUP_FILES[version]
    for name, text in ((names[0], limit), (names[1], used), ("memory.stat", f"anon 7\n{names[2]} {held}")):
        (folder / name).write_text(f"{text}\n")


@pytest.mark.parametrize("limit, used, held, free", [("max", 0, 0, 8192), (6000, 2000, 500, 4500), (2000, 3000, 0, 0)])
@pytest.mark.parametrize(
    "own, group, version",
    [
        ("0::/", "", 2),  # a container
        ("0::/slurm/job_7/step_0", "slurm/job_7", 2),  # a job, whose limit lies above the step
        ("9:name=systemd:/\n4:memory:/slurm/job_7\n0::/", "memory/slurm/job_7", 1),
    ],
)
def test_free_memory_is_the_machines_or_that_of_a_job(limit, used, held, free, own, group, version, system):
    """What a group holds of files is given back when it is needed."""
    (system / "meminfo").write_text("MemTotal:  16 kB\nMemAvailable:  8 kB\n")
    (system / "own").write_text(f"{own}\n")
    tell(system, group, version, limit, used, held)
    assert memory.available_memory() == free


def test_a_system_that_does_not_tell(system):
    assert memory.available_memory() is None
