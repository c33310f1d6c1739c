"""The script on many processes: its arithmetic, its parts, and the page that shows what it has measured."""

import importlib
import json

import pytest
from conftest import BUNDLE, ROOT


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("many_processes")


def test_two_processes_are_compared_run_by_run(script, tmp_path, monkeypatch):
    """The machine is three times slower in the second pair of runs, and somebody else's work is in the third one."""
    seconds = iter([20, 10, 60, 30, 20, 40])
    monkeypatch.setattr(script, "timed", lambda *_: {"start": 5.0, "work": next(seconds), "end": 1.0})
    monkeypatch.setattr(script, "bytes_read", lambda *_: 70)
    found = script.speed(tmp_path, 5, (32, 32, 16), {"features": "4"}, 3)
    assert found["gains"] == [2, 2, 0.5] and found["ratio"] == 1 and found["read_bytes"] == 14
    assert found["processes"] == {
        1: {"start": 5, "work": 20, "end": 1}, 2: {"start": 5, "work": 30, "end": 1}
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_is_timed_part_by_part(script, tmp_path):
    options = {"pictures": "False", "num_workers": "0", **script.TINY}
    data, models = script.prepare(tmp_path, 2, (32, 32, 16), 4)
    found = script.timed(data, models, tmp_path / "out", 2, options)
    assert list(found) == ["start", "work", "end"] and min(found.values()) > 0
    images = sum(file.stat().st_size for file in data.glob("semantic_MRs*/*"))
    assert script.bytes_read(data, models, tmp_path / "read", options) > images > 0


def test_hours_on_many_processes(script):
    seconds = dict.fromkeys(("list", "last run.json", "last volumes.csv", "report"), 100)
    once = {"records": 7200, "seconds": {**seconds, "take a case": 9}}
    found = {"full": {"cases": 8, "processes": {"1": {"start": 1400, "work": 16}}}, "many": once}
    assert script.hours(found, 1) == pytest.approx(4.5) and script.hours(found, 8) == pytest.approx(1.0)


def test_the_parts_that_are_done_once_are_measured(script, tmp_path):
    found = script.many(tmp_path, 30)
    assert found["records"] == 30 and min(found["seconds"].values()) > 0
    assert {"run.json", "volumes.csv", "report.html", "metrics.csv"} < set(found["bytes"])
    assert len((tmp_path / "out" / "volumes.csv").read_text().splitlines()) == 31


def test_the_page_shows_what_was_measured(script):
    docs = BUNDLE / "docs"
    found = json.loads((docs / "many_processes_metrics.json").read_text())
    text = (docs / "how-to" / "cluster.md").read_text()
    assert f"<!-- many_processes -->\n\n{script.table(found)}\n<!-- end -->" in text
