"""Ways to a faster training step: that two processes really do steps in turns, and what the table says of them."""

import pytest
from conftest import ROOT


@pytest.fixture()
def step_variants(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import step_variants

    return step_variants


@pytest.mark.programs
def test_the_steps_of_two_processes(step_variants):
    row = step_variants.measure("light", [16, 16, 32], False, 2)
    assert len(row["pairs"]) == 2 and all(second > 0 for pair in row["pairs"] for second in pair)
    assert 0 < row["least"] <= row["faster"] <= row["most"]


def test_the_table_has_the_ratio_of_neighbouring_steps(step_variants):
    row = {"way": "light", "size": [8, 8, 8], "half": False, "pairs": [[4.0, 2.0], [3.0, 1.0]], "processors": ["X"]}
    text = step_variants.table([row | {"faster": 2.5, "least": 2.0, "most": 3.0}])
    assert text.splitlines()[-1] == (
        "| `--network_def::variant light` | 2 of 8x8x8 | float32 | 3.50 | 1.50 | 2.50 (2.00 to 3.00) | X |"
    )


@pytest.mark.programs
def test_a_process_that_ends_is_told(step_variants):
    with pytest.raises(SystemExit, match="a process ended"):
        step_variants.Worker("light", [3, 3, 3], False).step()
