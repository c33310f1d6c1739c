"""What makes a run this run: a resumed training must have the same settings, network and cases as the saved one."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch.distributed as dist

from scripts.core.describe import describe
from scripts.core.errors import UserError
from scripts.run.knobs import shaping
from scripts.training.fingerprint import case_digests, plain

logger = logging.getLogger(__name__)

LONGEST = 6  # changes that a message names
NOTHING = "(nothing)"

Change = tuple[str, object, object]  # name, value before, value now


class RunIdentity:
    """Describes everything that shapes a training, and refuses to resume a run that was shaped otherwise.

    The description follows from the built objects (`scripts.core.describe`), so no setting can be forgotten, however
    it was given: by a patch, a recipe or an option such as --loss::lambda_ce. The knobs only give a change the name
    that a user knows.

    Args:
        parts: the objects that a run is built of, by name.
        knobs: settings by name.
        cases: the data list, with `training` and `validation`.
        allow_changes: True only warns of what has changed.
    """

    def __init__(self, parts: Mapping, knobs: Mapping, cases: Mapping, allow_changes: bool = False):
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.knobs = {name: plain(value) for name, value in shaping(knobs).items()}
        self.facts = {**case_digests(cases), "processes": processes}
        self.objects = describe(parts)  # now, not later: training changes the objects
        self.allow_changes = allow_changes

    def state_dict(self) -> dict:
        return {"knobs": self.knobs, "facts": self.facts, "objects": self.objects}

    def compare(self, saved: dict, file: Path) -> bool:
        """Refuses to resume another run than the saved one. Where changes are allowed, returns whether there are any.

        Args:
            saved: the content of the checkpoint.
            file: the checkpoint, for the message.
        """
        before = saved.get("identity")
        if isinstance(before, dict) and {"knobs", "facts", "objects"} <= before.keys():
            changed = self.changes(before)
        elif isinstance(saved.get("fingerprint"), dict):
            logger.warning(
                f"{file}: saved by an older version of this bundle; its knobs and cases are compared with those of "
                "this run, but the options of its network, loss, optimizer and transforms can't be"
            )
            changed = differing(saved["fingerprint"], {**self.knobs, **self.facts}, shared_only=True)
        else:
            logger.warning(f"{file}: does not tell its settings and cases, so they can't be compared with this run's")
            return False
        if changed:
            self.report(changed, file)
        return bool(changed)

    def report(self, changed: list[Change], file: Path) -> None:
        listed = "; ".join(f"{name} was {was}, is {now}" for name, was, now in map(shortened, changed[:LONGEST]))
        if len(changed) > LONGEST:
            listed += f"; and {len(changed) - LONGEST} more"
        if not self.allow_changes:
            raise UserError(
                f"{file}: belongs to a run with other settings or data: {listed}. Give the former values, or "
                "--resume_changed True to resume with the new ones, or leave out --resume to start anew"
            )
        logger.warning(f"resumed with changes: {listed}; the optimizer keeps its averages, the schedule its place")

    def changes(self, before: Mapping) -> list[Change]:
        """Everything that is not as it was: knobs and cases by name, then objects that no changed knob explains.

        A knob that has changed no object is left out where the others explain all: it may change when a run goes on.
        """
        objects = topmost(differing(before["objects"], self.objects))
        facts = differing(before["facts"], self.facts)
        if not objects and not facts:
            return []  # a knob that has changed no object, such as the number of workers
        knobs = differing(before["knobs"], self.knobs, shared_only=True)
        in_objects = {json.dumps(pair) for _, was, now in objects for pair in pairs(was, now)}
        seen = [one for one in knobs if in_objects & {json.dumps(pair) for pair in pairs(*one[1:])}]
        explaining = {json.dumps(pair) for _, was, now in seen for pair in pairs(was, now)}
        others = []
        for name, was, now in objects:
            changed = {json.dumps(pair) for pair in pairs(was, now)}
            if not changed or changed - explaining:
                others.append((self.readable(name), was, now))
            explaining |= changed
        return (knobs if others or facts else seen) + facts + others

    def readable(self, name: str) -> str:
        """The name of a value, with what stands at each position of a list: transforms::9 (RandFlipd)::prob."""
        parts = name.split("::")
        for position in range(len(parts) - 1, 0, -1):
            thing = self.objects.get("::".join(parts[: position + 1]))
            if parts[position].isdigit() and isinstance(thing, str) and position < len(parts) - 1:
                parts[position] += f" ({thing.split(',')[0]})"
        return "::".join(parts)


def differing(before: Mapping, now: Mapping, shared_only: bool = False) -> list[Change]:
    """Values that differ; with `shared_only`, names that only one side has are left out."""
    names = [name for name in now if name in before] if shared_only else list(dict.fromkeys([*now, *before]))
    pairs = [(name, before.get(name, NOTHING), now.get(name, NOTHING)) for name in names]
    return [(name, was, new) for name, was, new in pairs if was != new]


def topmost(changed: list[Change]) -> list[Change]:
    """Without changes inside an object that has itself been replaced by another kind."""
    names = {name for name, _, _ in changed}

    def inside(name: str) -> bool:
        parts = name.split("::")
        return any("::".join(parts[:length]) in names for length in range(1, len(parts)))

    return [change for change in changed if not inside(change[0])]


def pairs(was: object, now: object) -> list[tuple]:
    """Which single values have changed to which; signs are left out, since a range may reach to both sides."""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [pair for one, other in zip(was, now) if one != other for pair in pairs(one, other)]
    if isinstance(was, int | float) and isinstance(now, int | float) and bool not in (type(was), type(now)):
        return [(abs(float(was)), abs(float(now)))]
    return [(was, now)]


def shortened(change: Change) -> Change:
    """Two long lists without what both of them begin and end with."""
    name, was, now = change
    if not (isinstance(was, list) and isinstance(now, list)) or len(str(was) + str(now)) < 100:
        return change
    first = next((i for i, (one, other) in enumerate(zip(was, now)) if one != other), min(len(was), len(now)))
    last = 0
    while last < min(len(was), len(now)) - first and was[-1 - last] == now[-1 - last]:
        last += 1

    def middle(values: list) -> str:
        kept = [str(value) for value in values[first : len(values) - last]] or [NOTHING]
        return ", ".join([*(["..."] if first else []), *kept, *(["..."] if last else [])])

    return name, f"[{middle(was)}]", f"[{middle(now)}]"
