"""The order of scans, from what they gain and where they lie."""

import numpy as np
import pytest

from scripts.next.choice import SEEN, choose, places


def facts(*numbers):
    return {name: list(numbers) for name in SEEN}


def test_scans_that_look_alike_lie_near_each_other():
    rows = places([facts(0, 0), facts(0, 0.1), facts(9, 9)])
    first, second, third = rows
    assert np.linalg.norm(first - second) < np.linalg.norm(first - third) / 10
    assert np.isclose(np.sqrt((rows**2).sum(1).mean()), np.sqrt(len(SEEN)))  # each kind of fact counts the same
    assert np.isfinite(places([facts(1, 1), facts(1, 1)])).all()


def test_of_two_alike_only_one_is_chosen_early():
    rows = np.array([[0.0], [0.01], [5.0], [10.0]])
    assert choose([1.0, 1.0, 0.5, 0.5], rows, 2, known=np.array([[10.1]])) == [0, 2]


def test_a_scan_near_a_labelled_one_comes_late():
    rows = np.array([[0.0], [4.0], [8.0]])
    assert choose([1.0, 1.0, 1.0], rows, 3, known=np.array([[8.1], [-0.1]]))[0] == 1


def test_without_labelled_scans_the_first_is_a_usual_one_and_the_next_is_far_from_it():
    rows = np.array([[-10.0], [0.1], [0.0], [9.0]])
    assert choose([1.0] * 4, rows, 3)[1:] == [0, 3]
    assert choose([1.0] * 4, rows, 1)[0] in (1, 2)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_no_scan_is_chosen_twice_and_no_more_than_there_are(count):
    found = choose([0.0, 0.0, 0.0], np.zeros((3, 2)), count)
    assert len(found) == len(set(found)) == min(3, count)
