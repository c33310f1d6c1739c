"""Systematic and random errors of all patients, and the margin of the usual recipe."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.weeks.motion import PatientMotion

AXES = {"left_mm": "left–right", "back_mm": "front–back", "head_mm": "head–foot"}
FEW = 10  # patients; with fewer the figures are rough
SYSTEMATIC, RANDOM = 2.5, 0.7  # weights of the two errors in van Herk's margin


@dataclass
class AxisStatistics:
    """The shifts of one organ along one axis; None where there are too few patients or scans.

    Attributes:
        patients: that have a shift.
        scans: that have a shift; the first scan of a patient has none.
        mean_mm: M, the mean of the patients' means.
        systematic_mm: Σ, the standard deviation of the patients' means; of two patients or more.
        random_mm: σ, the root of the mean square of the patients' standard deviations; of those with two or more.
        margin_mm: 2.5 Σ + 0.7 σ.
    """

    patients: int
    scans: int
    mean_mm: float | None
    systematic_mm: float | None
    random_mm: float | None
    margin_mm: float | None


def population(patients: Sequence[PatientMotion], organs: Sequence[str]) -> dict[str, dict[str, AxisStatistics]]:
    """The statistics of every organ and axis, by name of the organ and then by key of the axis."""
    return {organ: {axis: statistics(shifts_of(patients, organ, axis)) for axis in AXES} for organ in organs}


def shifts_of(patients: Sequence[PatientMotion], organ: str, axis: str) -> list[list[float]]:
    """The shifts of every patient, without those of an organ that is not whole."""
    moved = [[scan.organs[organ] for scan in patient.scans] for patient in patients]
    return [own for found in moved if (own := [getattr(one, axis) for one in found if one.whole])]


def statistics(shifts: Sequence[Sequence[float]]) -> AxisStatistics:
    """From the shifts of every patient, at least one of each."""
    means = [float(np.mean(own)) for own in shifts]
    deviations = [float(np.std(own, ddof=1)) for own in shifts if len(own) > 1]
    systematic = float(np.std(means, ddof=1)) if len(means) > 1 else None
    random = float(np.sqrt(np.mean(np.square(deviations)))) if deviations else None
    margin = None if systematic is None or random is None else SYSTEMATIC * systematic + RANDOM * random
    mean = float(np.mean(means)) if means else None
    return AxisStatistics(len(means), sum(map(len, shifts)), mean, systematic, random, margin)
