"""The settings of a plan, each with its reason. What chooses them is in `grid.py`, `training.py` and `choices.py`."""

from dataclasses import dataclass, field

from scripts.plan.timing import Cost


@dataclass
class Plan:
    """Settings by name, and the reasons of those that were chosen by the data.

    Args:
        settings: ids of the configuration and their values.
        reasons: by id, of the settings that have one.
        cost: of a step on this machine.
        steps: of the whole training.
    """

    settings: dict = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    cost: Cost = Cost(0, 0, 0)
    steps: int = 0

    def choose(self, name: str, value: object, reason: str = "") -> None:
        self.settings[name] = value
        if reason:
            self.reasons[name] = reason


def numbers(values) -> str:
    """Three numbers as they are written in a reason."""
    return "x".join(f"{float(value):.3g}" for value in values)
