"""Every case goes to one process, and to the one that asks first."""

from datetime import timedelta

import pytest
import torch.distributed as dist
from torch.utils.data import DataLoader

from scripts.inference import shares


@pytest.fixture(autouse=True)
def meeting(monkeypatch):
    """The store that torchrun provides, and one name for the counter, which the processes agree on there."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=20))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    passes = iter("aabb")
    monkeypatch.setattr(shares, "uuid4", lambda: type("Name", (), {"hex": next(passes)}))
    yield store


@pytest.mark.parametrize("workers", [0, 1])
def test_a_free_process_takes_the_next_case(workers):
    cases = list(range(11))
    fast, slow = (DataLoader(cases, sampler=shares.NextCase(cases), num_workers=workers) for _ in range(2))
    slow_cases = iter(slow)
    begun = [next(slow_cases).item()]
    done = [batch.item() for batch in fast]
    begun += [batch.item() for batch in slow_cases]
    assert sorted(done + begun) == cases
    assert len(begun) <= 1 + 2 * workers  # a worker process has two cases in advance


def test_every_pass_has_all_cases():
    one, other = (shares.NextCase("abc") for _ in range(2))
    assert [*one, *other] == [0, 1, 2] and [*other, *one] == [0, 1, 2]


def test_there_is_no_length():
    """It would be that of all processes together, and an engine would go on until it has seen so many."""
    with pytest.raises(TypeError):
        len(DataLoader([1, 2, 3], sampler=shares.NextCase([1, 2, 3])))
