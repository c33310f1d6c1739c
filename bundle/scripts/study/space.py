"""The space of a study: which ids are varied, over which values, and which of these each run gets."""

import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fire
import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from scripts.core.errors import UserError
from scripts.core.files import read_json

OPTIONS = {"low", "high", "step", "log"}  # of a range
MOST_POINTS = 10_000  # a larger grid is probably a mistake
FIXED = {  # ids that a space can't vary, and the reason
    **dict.fromkeys(("output_dir", "ckpt_dir", "log_dir", "datalist", "dataset_dir", "bundle_root"), "is a path"),
    **dict.fromkeys(
        ("validation_share", "test_share", "folds", "by_slice"), "decides the splits, which all runs share"
    ),
    **dict.fromkeys(("resume", "resume_changed"), "is set by the study"),
    **dict.fromkeys(("class_names", "device", "main_process"), "is the same for all runs"),
}


@dataclass(frozen=True)
class Knob:
    """An id and its possible values.

    Args:
        name: the id.
        values: the values by label. The label of a number or a text is the value itself; that of a list or a
            dictionary is its JSON text.
        span: a distribution over a range, instead of values.
        stepped: whether the range has a step.
    """

    name: str
    values: dict | None = None
    span: FloatDistribution | IntDistribution | None = None
    stepped: bool = False

    def draw(self, trial: optuna.Trial) -> object:
        """Returns the value that the study chooses for the trial."""
        if self.values is not None:
            return self.values[trial.suggest_categorical(self.name, list(self.values))]
        suggest = trial.suggest_int if isinstance(self.span, IntDistribution) else trial.suggest_float
        step = {} if self.span.step is None else {"step": self.span.step}
        return suggest(self.name, self.span.low, self.span.high, log=self.span.log, **step)

    @property
    def first(self) -> object:
        """The first value of a list, the lowest of a range."""
        return self.span.low if self.values is None else next(iter(self.values.values()))

    @property
    def count(self) -> int | None:
        """The number of values, or None if they can't be listed: a range that has a step or whole numbers can be."""
        if self.values is not None:
            return len(self.values)
        if self.span.step is None:
            return None
        return math.floor((self.span.high - self.span.low) / self.span.step + 1e-9) + 1

    def grid(self) -> list:
        """Returns all labels, or all numbers of a range that can be listed."""
        if self.values is not None:
            return list(self.values)
        kind = type(self.span.low)
        return [
            kind(f"{self.span.low + i * self.span.step:.12g}") for i in range(self.count or 0)
        ]  # 0.3, not 0.30000000000000004


def parse_space(space: object) -> list[Knob]:
    """Reads a space: `{"id": [value, ...]}`, or `{"id": {"low": .., "high": .., "step": .., "log": ..}}`.

    Args:
        space: a dictionary, or the path of a JSON file that contains one.

    Raises:
        UserError: it is not a valid space.
    """
    if isinstance(space, str) and Path(space).is_file():
        space = read_json(Path(space))
    if not isinstance(space, dict) or not space:
        raise UserError(
            f"space is {space!r}: expected values by id, say --space \"{{'learning_rate':[0.001,0.0003]}}\", "
            "or name a JSON file that contains them"
        )
    return [parse_knob(str(name), spec) for name, spec in space.items()]


def parse_knob(name: str, spec: object) -> Knob:
    """Reads one id of a space."""
    name = name.replace("#", "::")
    if name in FIXED:
        raise UserError(f"space: {name} {FIXED[name]} and can't be varied; take it out of --space")
    if isinstance(spec, dict):
        return Knob(name, span=parse_range(name, spec), stepped=spec.get("step") is not None)
    if not isinstance(spec, list | tuple) or not spec:
        raise UserError(
            f"space: {name} is {spec!r}; expected a list of values, or a range such as {{'low':0.0,'high':0.5}}"
        )
    values: dict = {}
    for value in spec:
        plain = value is None or isinstance(value, str | int | float)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"space: {name} has the value {value}; expected finite numbers")
        label = value if plain else json.dumps(value, default=str)
        if label in values:
            raise UserError(f"space: {name} has {value!r} twice (or the equal {values[label]!r}); list each value once")
        values[label] = value
    return Knob(name, values=values)


def parse_range(name: str, spec: dict) -> FloatDistribution | IntDistribution:
    """Reads the range of an id."""
    wrong = sorted(map(str, set(spec) - OPTIONS)) or [key for key in ("low", "high") if key not in spec]
    if wrong:
        raise UserError(
            f"space: the range of {name} has {', '.join(map(str, spec)) or 'nothing'}; expected low and high, and "
            f"optionally step or log (check {', '.join(wrong)})"
        )
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    numbers = [n for n in (low, high, step) if n is not None]
    if not isinstance(log, bool) or not all(is_number(n) for n in numbers) or len(numbers) < 2 or low >= high:
        raise UserError(
            f"space: the range of {name} is {spec}; expected numbers, low below high, and log True or False"
        )
    try:
        if all(isinstance(n, int) for n in numbers):
            return IntDistribution(low, high, log=log, step=1 if step is None else step)
        return FloatDistribution(float(low), float(high), log=log, step=step)
    except ValueError as error:
        raise UserError(f"space: the range of {name} is {spec}; {' '.join(str(error).split())}") from error


def is_number(value: object) -> bool:
    """Returns whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def plan_runs(knobs: Sequence[Knob], search: str, trials: int | None, seed: int) -> list[dict]:
    """Chooses the labels and numbers, by id, for each run of the study.

    With more trials the plan is longer, but begins with the same runs. The order of a grid is random, so that the first
    runs represent the complete grid. The plan of `tpe` is empty, because it chooses values after earlier runs.

    Args:
        knobs: the space.
        search: `grid`, `random` or `tpe`.
        trials: number of runs; None for the complete grid.
        seed: of the random choices.
    """
    if search == "tpe":
        return [{} for _ in range(trials)]
    if search == "random":
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        return [draw_params(drawn.ask(), knobs) for _ in range(trials)]
    for knob in knobs:
        if knob.values is None and not knob.stepped:
            raise UserError(
                f"space: {knob.name} is a range without a step, which a grid can't use; give it a step or a list of "
                "values, or say --search random"
            )
    if (count := math.prod(knob.count or 0 for knob in knobs)) > MOST_POINTS:
        raise UserError(f"space: a grid of {count} points; expected {MOST_POINTS} at most, or say --search random")
    axes = [knob.grid() for knob in knobs]
    points = [dict(zip((knob.name for knob in knobs), point)) for point in itertools.product(*axes)]
    random.Random(seed).shuffle(points)
    return points[:trials]


def draw_params(trial: optuna.Trial, knobs: Sequence[Knob]) -> dict:
    """Chooses a value for every knob, and returns the values by id."""
    for knob in knobs:
        knob.draw(trial)
    return trial.params


def as_argument(value: object) -> str:
    """Returns a value as an argument of the command line, such that fire and the run read the same value.

    MONAI leaves out an argument that is None, but not an expression that gives None.
    """
    if value is None:
        return "$None"
    text = str(value)
    bare = isinstance(value, str) and not text.startswith("-") and fire.parser.DefaultParseValue(text) == value
    return text if bare else repr(value)
