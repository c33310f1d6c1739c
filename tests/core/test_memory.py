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


@pytest.mark.parametrize("limit, used, held, free", [("max", 0, 0, 8192), (6000, 2000, 500, 4500), (2000, 3000, 0, 0)])
def test_free_memory_is_the_machines_or_the_containers(limit, used, held, free, tmp_path, monkeypatch):
    """A container may have less than its machine; what it holds of files is given back when it is needed."""
    for name, text in (
        ("memory.max", limit),
        ("memory.current", used),
        ("memory.stat", f"anon 7\ninactive_file {held}"),
    ):
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "meminfo").write_text("MemTotal:  16 kB\nMemAvailable:  8 kB\n")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    assert memory.available_memory() == free


def test_a_system_that_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    assert memory.available_memory() is None
