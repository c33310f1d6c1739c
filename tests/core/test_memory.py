"""Memory that is kept: whether the system is asked for it again."""

import ctypes
import json
import subprocess
import sys

import pytest
from conftest import BUNDLE

from scripts.core.memory import keep_freed

TENSOR = 36 * 2**20  # bytes; above the 32 MiB from which glibc gives a block back as soon as it is freed
COUNT = """
import ctypes, json, torch
from scripts.core.memory import keep_freed

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

counted = ctypes.CDLL(None).mallinfo2
counted.restype = Info
if {kept}: keep_freed()
x = torch.rand({tensor} // 4, requires_grad=True)
taken = []
for _ in range(4):
    x.exp().sin().sum().backward()
    info = counted()
    taken.append((info.arena + info.hblkhd, info.fordblks))
print(json.dumps(taken))
"""


def after_each_step(kept: bool) -> list[tuple[int, int]]:
    """The allocator's own account after each of four equal steps: bytes that it has of the system, and free ones.

    It counts what was asked for and not how long that took or what the system did with it: the same on a busy machine.
    """
    code = COUNT.format(kept=kept, tensor=TENSOR)
    done = subprocess.run([sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_step_asks_the_system_for_nothing_once_there_were_some():
    if not keep_freed() or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    (*_, before, last), (*_, without) = after_each_step(True), after_each_step(False)
    assert last[0] - before[0] < 2**20  # one more step, and nothing more of the system
    assert last[1] >= 2 * TENSOR  # what a step needs lies ready
    assert without[1] < TENSOR  # and would not of itself


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed() is False
