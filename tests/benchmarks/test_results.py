"""Rows of benchmarks that are kept from call to call."""

import importlib
import json

import pytest
from conftest import ROOT


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("results")


def test_rows_of_trainings_that_are_gone_stay(results, tmp_path):
    old = [{"set": "a", "fold": 0, "dice": 0.1}, {"set": "a", "fold": 1, "dice": 0.2}]
    new = {"set": "a", "fold": 1, "dice": 0.3}

    def place(row):
        return row["set"], row["fold"]

    assert results.with_earlier([new], tmp_path / "none.json", place) == [new]
    results.leave(old, "| a table |", tmp_path / "a")
    assert results.with_earlier([new], tmp_path / "a.json", place) == [old[0], new]
    assert (tmp_path / "a.md").read_text() == "| a table |" and json.loads((tmp_path / "a.json").read_text())


def test_a_set_that_is_measured_anew_loses_its_rows(results, tmp_path):
    rows = [{"set": "a", "processors": ["X"]}, {"set": "a", "processors": ["Y"]}, {"set": "b", "processors": ["X"]}]
    results.leave(rows, "", tmp_path / "a")
    assert results.rows_of_other_sets(tmp_path / "a.json", "a") == rows[2:]
    assert results.rows_of_other_sets(tmp_path / "a.json", "a", "X") == rows[1:]
