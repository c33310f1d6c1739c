"""The sampler of a tpe search: which seed fixes what, in one process and in several."""

import optuna
import pytest

from scripts.study.sampler import RunSampler
from scripts.study.space import parse_space

KNOBS = parse_space({"a": {"low": 0.0, "high": 1.0}, "b": {"low": 0.0, "high": 1.0}, "c": ["x", "y", "z"]})


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def queued(runs, seed=0):
    study = optuna.create_study(sampler=RunSampler(seed), direction="maximize")
    for run in range(runs):
        study.enqueue_trial({}, user_attrs={"run": run})
    return study


def score(trial):
    drawn = {knob.name: knob.draw(trial) for knob in KNOBS}
    return drawn["a"] - drawn["b"]


def values(runs, seed=0, parallel=1):
    study = queued(runs, seed)
    study.optimize(score, runs, n_jobs=parallel)
    return [trial.params for trial in study.trials]


def test_one_process_draws_the_same_again_and_every_run_something_else():
    drawn = values(14)
    assert drawn == values(14) and len({params["a"] for params in drawn}) == 14
    assert all(params["a"] != params["b"] for params in drawn)
    assert not {params["a"] for params in drawn} & {params["a"] for params in values(14, seed=1)}


def test_it_learns():
    study = queued(40)
    study.optimize(score, 40)
    scores = [trial.value for trial in study.trials]
    assert sum(scores[20:]) / 20 > sum(scores[:10]) / 10 + 0.3


def test_at_the_same_time_the_first_ten_runs_are_those_of_the_seed():
    assert values(10, seed=3, parallel=2) == values(10, seed=3) != values(10, seed=4)


def test_machines_draw_different_values_for_their_runs():
    study = queued(8)
    other = optuna.load_study(study_name=study.study_name, storage=study._storage, sampler=RunSampler(0))
    for machine in (study, other) * 4:
        machine.optimize(score, 1)
    assert [trial.params for trial in study.trials] == values(8)


def test_a_run_that_is_queued_again_before_it_drew_gets_the_same_values():
    study = queued(1)
    study.enqueue_trial({}, user_attrs={"run": 0})
    study.ask()
    study.optimize(score, 1)
    assert study.trials[1].params == values(1)[0]
