"""Memory that is kept: whether the system is asked for it again."""

import subprocess
import sys

import pytest
from conftest import BUNDLE

from scripts.core.memory import keep_freed

COUNT = """
import resource, torch
from scripts.core.memory import keep_freed
if {kept}: keep_freed()
x = torch.rand(2**23 + 2**20, requires_grad=True)
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x.exp().sin().sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_asked_for(kept: bool) -> int:
    """Pages that the fourth of some steps takes from the system; its tensors have 9216 each."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(kept=kept)], cwd=BUNDLE, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_step_asks_the_system_for_little_once_there_were_some():
    if not keep_freed():
        pytest.skip("needs glibc")
    given_back, kept = pages_asked_for(False), pages_asked_for(True)
    assert kept < given_back / 4


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed() is False
