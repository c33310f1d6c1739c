"""The choice itself: from numbers of every scan to their order."""

from collections.abc import Mapping, Sequence

import numpy as np

SEEN = ("picture", "intensities")  # facts of `scripts.doubt.likeness` that say what a scan shows


def places(facts: Sequence[Mapping[str, Sequence[float]]]) -> np.ndarray:
    """A row of numbers for every scan; scans that look alike lie near each other. Each kind of fact counts the same."""
    parts = []
    for name in SEEN:
        table = np.array([one[name] for one in facts], float)
        table = table - table.mean(0)
        parts.append(table / max(np.linalg.norm(table) / np.sqrt(len(table)), 1e-9))
    return np.concatenate(parts, axis=1)


def choose(gains: Sequence[float], rows: np.ndarray, count: int, known: np.ndarray | None = None) -> list[int]:
    """The numbers of the chosen scans, the best first.

    The next one is always the scan whose gain, times its distance from the nearest scan that is labelled or chosen, is
    the largest.

    Args:
        gains: what a network would learn from each scan.
        rows: of `places`, for each scan.
        count: how many to choose.
        known: rows of the scans that are labelled.
    """
    if not len(rows):
        return []
    gain = np.asarray(gains, float)
    chosen: list[int] = []
    if known is None or not len(known):  # the first one is in the middle of those with the largest gain
        chosen.append(int(np.argmax(gain / (1e-9 + distances(rows, rows.mean(0))))))
        known = rows[chosen]
    nearest = np.min([distances(rows, row) for row in known], axis=0)
    while len(chosen) < min(count, len(rows)):
        worth = gain * nearest
        worth[chosen] = -1.0
        chosen.append(int(np.argmax(worth)))
        nearest = np.minimum(nearest, distances(rows, rows[chosen[-1]]))
    return chosen


def distances(rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows - row, axis=1)
