"""The results of a study so far: one row per run, as a CSV file and as a table for the terminal."""

import math
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from scripts.core.files import write_csv
from scripts.study.space import Knob

ORDER = ("complete", "running", "waiting", "stopped", "failed")
MEASURED = ("score", "epochs_run", "seconds", "state", "reason")
UNKNOWN = ""  # a value that is not chosen yet
WIDEST = 40  # characters of a cell on a terminal


def latest_trials(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Returns the last trial of every run, by the run's number. A run that was interrupted has several trials."""
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    found = {trial.user_attrs["run"]: trial for trial in trials if "run" in trial.user_attrs}
    return dict(sorted(found.items()))


def run_state(trial: FrozenTrial) -> str:
    """Returns the state of a run. A failed trial with a reason has failed; one without was stopped and can continue."""
    if trial.state == TrialState.FAIL:
        return "failed" if "reason" in trial.user_attrs else "stopped"
    return trial.state.name.lower()


def result_rows(study: optuna.Study, knobs: Sequence[Knob]) -> list[dict]:
    """Returns one row per run: its number, its values (a list as JSON), and its result."""
    found = []
    for number, trial in latest_trials(study).items():
        drawn = {**trial.user_attrs.get("planned", {}), **trial.params}
        row: dict = {"number": number}
        for knob in knobs:
            row[knob.name] = drawn.get(knob.name, UNKNOWN)
        row["score"] = trial.value if trial.state == TrialState.COMPLETE else None
        row |= {"epochs_run": trial.user_attrs.get("epochs"), "seconds": trial.user_attrs.get("seconds")}
        found.append({**row, "state": run_state(trial), "reason": trial.user_attrs.get("reason")})
    return found


def best_first(found: list[dict]) -> list[dict]:
    """Sorts rows by state, then by score."""
    return sorted(found, key=lambda row: (ORDER.index(row["state"]), -(row["score"] or 0), row["number"]))


def write_table(found: list[dict], knobs: Sequence[Knob], file: Path) -> None:
    """Writes the rows in the order of their numbers."""
    names = [knob.name for knob in knobs]
    rows = (row | {name: "None" for name in names if row[name] is None} for row in found)
    columns = ["number", *names, *MEASURED]
    write_csv([columns, *([row[name] for name in columns] for row in rows)], file)


def table_text(found: list[dict], knobs: Sequence[Knob]) -> str:
    """Returns a table for the terminal, with the best run first."""
    head = ["run", *(knob.name for knob in knobs), "score", "epochs", "seconds", "state"]
    table = [head]
    for row in best_first(found):
        cells = [str(row["number"]), *(cell_text(row[knob.name]) for knob in knobs)]
        cells += [
            "-" if row["score"] is None else f"{row['score']:.4f}",
            *("-" if row[key] is None else cell_text(row[key]) for key in ("epochs_run", "seconds")),
        ]
        table.append([*cells, row["state"] + (f": {row['reason']}" if row["reason"] else "")])
    widths = [max(len(line[i]) for line in table) for i in range(len(head) - 1)]
    return "\n".join("  ".join([*(c.rjust(w) for c, w in zip(line, widths)), line[-1]]) for line in table)


def cell_text(value: object, widest: int = WIDEST) -> str:
    """Returns a short text for a value."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    shown = str(value).replace(", ", ",").replace(": ", ":").replace('"', "") or "-"
    if len(shown) > widest:  # the end of a reference is its most specific part
        shown = shown.rsplit("::", 1)[-1]
    return shown if len(shown) <= widest else shown[: widest - 3] + "..."
