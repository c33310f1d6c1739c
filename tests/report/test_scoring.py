"""Scoring files in several processes: how many are used, the order of results, and one line for each failure."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import refusal, save_labels

from scripts.core.errors import UserError
from scripts.report import scoring
from scripts.report.scoring import CasePainter, ScoringJob, count_workers, score_all

NAMES = ["background", "body"]


@pytest.fixture
def jobs(tmp_path):
    """Four cases; the third prediction is on another grid."""
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    made = []
    for n in range(4):
        truth = save_labels(tmp_path / "truth" / f"scan_{n}.nii.gz", labels)
        prediction = np.roll(labels, n, 0)[n == 2 :]
        made.append(ScoringJob(truth, save_labels(tmp_path / "pred" / f"scan_{n}_seg.nii.gz", prediction)))
    return made


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order_and_a_failure_is_a_line(jobs, workers):
    results = score_all(jobs, NAMES, 2.0, workers)
    assert [getattr(result, "case", None) for result in results] == ["scan_0", "scan_1", None, "scan_3"]
    assert "found shape (7, 8, 8)" in results[2] and "scan_2_seg.nii.gz" in results[2]
    assert [results[n].measures["body"]["Dice"] for n in (0, 1, 3)] == pytest.approx([1, 0.75, 0.25])


@pytest.mark.parametrize(
    "cases, workers, cores, expected",
    [
        (1200, 0, 1, 1),
        (1200, 0, 8, 8),
        (1200, 0, 500, scoring.MOST_WORKERS),
        (20, 0, 8, 1),  # so few are scored sooner than processes have started
        (100, 0, 8, 6),
        (4, 8, 2, 4),
        (0, 0, 8, 1),
    ],
)
def test_as_many_processes_as_are_worth_it(cases, workers, cores, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert count_workers(cases, workers) == expected


def test_a_daemonic_process_starts_no_others(monkeypatch):
    """Python does not allow it, so such a process scores all cases itself."""
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    assert count_workers(1200, 8) == 1


def test_a_process_that_is_killed_is_one_line(jobs, monkeypatch):
    class BrokenPool(ThreadPoolExecutor):
        def __init__(self, count, **options):
            super().__init__(count)

        def map(self, call, jobs, chunksize):
            raise BrokenProcessPool("a process in the process pool was terminated abruptly")

    monkeypatch.setattr(scoring, "ProcessPoolExecutor", BrokenPool)
    message = refusal(score_all, jobs, NAMES, 2.0, 2)
    assert "ended before its work was done" in message and "--workers 1" in message


def test_pictures_are_drawn_from_the_files(jobs):
    record = score_all(jobs[1:2], NAMES, 2.0)[0]
    painter = CasePainter(jobs, NAMES)
    every, body = painter(record, ""), painter(record, "body")
    assert list(every["tiles"]) == list(body["tiles"]) == ["truth", "prediction", "error"] and every != body
    jobs[3].prediction.unlink()
    with pytest.raises(UserError, match="not readable"):
        painter(SimpleNamespace(prediction_file=str(jobs[3].prediction)), "")
