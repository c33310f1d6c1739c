"""Scores pairs of label maps on disk, in as many processes as the machine has cores for."""

import logging
import multiprocessing
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from scripts.core.errors import UserError, refuse_negative
from scripts.core.hardware import core_count
from scripts.data.label_maps import read_labels, read_volume, refuse_other_grid
from scripts.data.names import case_name
from scripts.report.records import measure_case
from scripts.report.schema import CaseRecord
from scripts.report.strips import Scan

logger = logging.getLogger(__name__)

MOST_WORKERS = 32  # more processes than that wait for the disk
CASES_PER_WORKER = 16  # starting a process takes as long as scoring about that many small cases


@dataclass(frozen=True)
class ScoringJob:
    """One case on disk.

    Attributes:
        truth: its true label map.
        prediction: its predicted label map.
        image: its image on the same grid, for pictures, or None.
        patient: name of the patient, or None where the name of the file says it.
    """

    truth: Path
    prediction: Path
    image: Path | None = None
    patient: str | None = None

    @property
    def case(self) -> str:
        return re.sub(r"_seg$", "", case_name(self.prediction))


def score_all(
    jobs: Sequence[ScoringJob], class_names: Sequence[str], tolerance_mm: float, workers: int = 0
) -> list[CaseRecord | str]:
    """A record for every case, or the line that says why it can't be scored; shows a progress bar.

    Args:
        jobs: the cases.
        class_names: names of the values 0, 1, ...
        tolerance_mm: of the surface Dice.
        workers: processes; 0 for as many as are worth it, 1 for none beside this one.
    """
    call = partial(score_or_reason, class_names=list(class_names), tolerance_mm=tolerance_mm)
    refuse_negative(workers=workers)
    count = count_workers(len(jobs), workers)
    results = map(call, jobs) if count == 1 else in_processes(call, jobs, count)
    return list(tqdm(results, total=len(jobs), desc="evaluation", unit="case", disable=None))


def count_workers(cases: int, workers: int = 0) -> int:
    """How many processes to use. A daemonic process, such as a worker of another pool, must not start any."""
    if multiprocessing.current_process().daemon:
        return 1
    wanted = workers or min(core_count(), MOST_WORKERS, cases // CASES_PER_WORKER)
    return max(1, min(wanted, cases))


def in_processes(call, jobs: Sequence[ScoringJob], count: int) -> Iterator[CaseRecord | str]:
    """Results in the order of the jobs. The processes are not forked from this one, which may have threads."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])  # imports everything once, and not in every process
    chunk = max(1, min(8, len(jobs) // (4 * count)))
    try:
        with ProcessPoolExecutor(count, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(call, jobs, chunksize=chunk)
    except BrokenProcessPool as error:
        raise UserError(
            f"evaluation: one of {count} processes ended before its work was done, often because memory was full; "
            "expected all of them to finish; try fewer with --workers 1"
        ) from error


def score_or_reason(job: ScoringJob, class_names: Sequence[str], tolerance_mm: float) -> CaseRecord | str:
    try:
        return score(job, class_names, tolerance_mm)
    except UserError as error:
        return str(error)


def score(job: ScoringJob, class_names: Sequence[str], tolerance_mm: float) -> CaseRecord:
    """The record of one case on disk.

    Raises:
        UserError: a file can't be read or is not on the grid of the truth.
    """
    prediction, truth, affine = read_case(job, class_names)
    record = measure_case(
        job.case, prediction, truth, affine, class_names, patient=job.patient, tolerance_mm=tolerance_mm
    )
    record.prediction_file, record.reference_file = str(job.prediction), str(job.truth)
    return record


def read_case(job: ScoringJob, class_names: Sequence[str]) -> tuple:
    """Prediction, truth and affine of a case, all on the grid of the truth."""
    expected = read_labels(job.truth, class_names)
    prediction, affine = read_labels(job.prediction, class_names)
    refuse_other_grid(job.prediction, prediction, affine, expected, job.truth.name)
    return prediction, *expected


def read_image(job: ScoringJob, grid: tuple) -> np.ndarray | None:
    """The image of a case for its pictures; None, with a warning, if it is not on the grid of the truth.

    Args:
        job: the case.
        grid: truth and its affine.
    """
    if job.image is None:
        return None
    try:
        image, affine = read_volume(job.image)
        refuse_other_grid(job.image, image, affine, grid, job.truth.name)
    except UserError as error:
        logger.warning(f"{error} (the case is scored, its pictures are without the image)")
        return None
    return image


class CasePainter:
    """Draws pictures of cases on disk, so that only those are drawn that the page shows.

    Args:
        jobs: the cases.
        class_names: names of the values 0, 1, ...
    """

    def __init__(self, jobs: Sequence[ScoringJob], class_names: Sequence[str]):
        self.jobs = {str(job.prediction): job for job in jobs}
        self.class_names = list(class_names)
        self.last: tuple[str | None, Scan | None] = None, None  # a case has several pictures, one after the other

    def __call__(self, record: CaseRecord, name: str) -> dict:
        """The picture of a class, or of all classes where the name is empty."""
        if self.last[0] != record.prediction_file:
            job = self.jobs[record.prediction_file]
            prediction, truth, affine = read_case(job, self.class_names)
            self.last = record.prediction_file, Scan(read_image(job, (truth, affine)), truth, prediction, affine)
        return self.last[1].strip(self.class_names.index(name) if name else None)
