"""The sampler of a tpe search, whose draws have the same seeds in any process. `command.py` uses it."""

import random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial


class RunSampler(TPESampler):
    """Optuna's TPESampler with seeds that depend on the run alone.

    With one seed for a process, machines that start together would draw the same values, each for another run; and
    Optuna replaces that seed by a random one where several runs are drawn at the same time.

    Args:
        seed: of the search.
    """

    def __init__(self, seed: int):
        super().__init__(constant_liar=True)
        self.seed = seed

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict) -> dict[str, Any]:
        return self.seeded(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.seeded(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def seeded(self, trial: FrozenTrial, name: str = "") -> TPESampler:
        """Returns a sampler for one draw: of one knob of a run, or of all together."""
        seed = random.Random(f"{self.seed} {trial.user_attrs.get('run')} {name}").getrandbits(32)
        return TPESampler(seed=seed, constant_liar=True)
