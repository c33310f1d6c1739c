"""The command `python -m scripts.study`: many training runs over a grid or a search of any ids of the configuration.

It trains one run for each point, in folders run_000, run_001 and so on. Started again, it continues where it stopped.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

import optuna
from filelock import FileLock
from monai.bundle import ConfigParser

from scripts.core.errors import UserError, one_line_reason
from scripts.core.files import read_json, write_json
from scripts.run.command_line import refuse_lost_parts, refuse_unknown_ids, refuse_unread_ids
from scripts.run.configuration import refuse_missing_files, refuse_wrong_order
from scripts.study.one_run import RunLauncher
from scripts.study.sampler import RunSampler
from scripts.study.space import Knob, parse_space, plan_runs
from scripts.study.trials import open_study, queue_trials, run_trials

SEARCHES = ("grid", "random", "tpe")
NAMED = "study.json"  # the settings of the study, and its name
OWN = ("output_dir", "ckpt_dir", "log_dir", "resume")  # the study sets them for each run
PLACE = ("num_workers", "cache_workers", "device", "dataset_dir")  # may change when a study is continued


def main(
    space: dict | str | None = None,
    output_dir: str | None = None,
    config_file: str | Sequence[str] = "configs/train.json",
    search: str = "grid",
    trials: int | None = None,
    parallel: int = 1,
    search_seed: int = 0,
    storage: str | None = None,
    retry_failed: bool = False,
    **overrides,
) -> None:
    """Runs a study, or continues it. Any other --id VALUE is passed to every run.

    Example: python -m scripts.study --space "{'learning_rate':[0.001,0.0003]}" --output_dir DIR --dataset_dir DATA

    Args:
        space: values by id, or a JSON file of them; {"low": .., "high": .., "step": .., "log": ..} is a range.
        output_dir: folder of the study: a folder for each run, study.db, study.csv, study.png and the datalist of all
            runs.
        config_file: one or more configuration files, as for `monai.bundle run`.
        search: grid, random, or tpe, which learns from earlier runs.
        trials: number of runs; by default a grid is run completely.
        parallel: number of runs at the same time; each has a GPU of its own if there are enough, or else its share of
            the cores.
        search_seed: seed of the search; --seed is the seed of the runs.
        storage: URL of a database, or a file on a shared disk, for a study on several machines.
        retry_failed: run the failed runs again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if output_dir is None:
        raise UserError("output_dir: not given, expected the folder of the study; say --output_dir DIR")
    check_numbers(search, trials, parallel, search_seed)
    files = [str(file) for file in (config_file if isinstance(config_file, list | tuple) else [config_file])]
    knobs = parse_space(space)
    overrides = {name.replace("#", "::"): value for name, value in overrides.items()}
    parser = read_configs(files)
    check_ids(files, knobs, overrides)
    planned = plan_runs(knobs, search, trials, search_seed)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "config_file": {file: hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] for file in files},
        "space": {knob.name: list(knob.values.values()) if knob.values else str(knob.span) for knob in knobs},
        "search": search,
        "search_seed": search_seed,
        "storage": re.sub(r"//[^/]*@", "//", str(storage)) if storage else None,  # without the password
        "passed to every run": {name: value for name, value in overrides.items() if name not in PLACE},
    }
    with FileLock(folder / ".study.lock"):  # several machines may start at the same time
        named = named_study(folder, settings)
        study = open_study(named["name"], storage or f"sqlite:///{folder / 'study.db'}", folder)
        overrides = {"datalist": str(folder / "datalist.json"), "calibrate": False} | overrides
        make_shared_datalist(parser, overrides, knobs)
        write_json(named, folder / NAMED)  # after all that may be refused: a study that never ran binds nobody
        queue_trials(study, folder, planned, retry_failed)
    if search == "tpe":
        study.sampler = RunSampler(search_seed)
    run_trials(study, folder, knobs, RunLauncher(files, overrides, parallel))


def check_numbers(search: str, trials: int | None, parallel: int, search_seed: int) -> None:
    """Refuses values of these arguments that are out of range."""
    if search not in SEARCHES:
        raise UserError(f"search is {search!r}: expected one of {', '.join(SEARCHES)}; give another --search")
    if trials is None and search != "grid":
        raise UserError(f"trials: not given, expected the number of runs of a {search} search; say --trials 20")
    for name, value, lowest in (("trials", trials, 1), ("parallel", parallel, 1), ("search_seed", search_seed, 0)):
        if name == "trials" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise UserError(f"{name} is {value!r}: expected a whole number from {lowest}; give another --{name}")


def read_configs(files: Sequence[str]) -> ConfigParser:
    """Reads the configuration files, one patch after the other."""
    refuse_missing_files(files)
    parser = ConfigParser()
    try:
        parser.read_config(list(files))
    except Exception as error:  # JSON and YAML raise errors of their own
        raise UserError(f"{', '.join(files)}: not readable ({one_line_reason(error)}); fix or replace it") from error
    refuse_wrong_order(files)
    return parser


def check_ids(files: Sequence[str], knobs: Sequence[Knob], overrides: dict) -> None:
    """Refuses ids that are unknown, that the study sets itself, or that no run of them reads."""
    varied = [knob.name for knob in knobs]
    for name in overrides:
        if name in OWN:
            raise UserError(f"--{name}: the study sets it for each run; leave it out")
        if name in varied:
            raise UserError(f"--{name}: is also in the space; leave one of them out")
    refuse_unknown_ids(["run", "--config_file", str(list(files)), *(f"--{name}" for name in [*varied, *overrides])])
    refuse_lost_parts({**overrides, **{knob.name: knob.first for knob in knobs}})
    values = [*overrides.values(), *(value for knob in knobs for value in (knob.values or {}).values())]
    refuse_unread_ids([f"--{name}" for name in overrides], files, values)
    refuse_unread_ids([f"space: {name}" for name in varied], files, values)


def named_study(folder: Path, settings: dict) -> dict:
    """Returns the settings of the study in a folder with its name, which is a new one if the folder has none yet.

    Args:
        folder: folder of the study.
        settings: settings of the study, kept in study.json.

    Raises:
        UserError: the folder contains a study with other settings.
    """
    file = folder / NAMED
    settings = json.loads(json.dumps(settings, default=str))
    if not file.is_file():
        return {"name": f"{folder.resolve().name}-{uuid.uuid4().hex[:8]}", **settings}
    found = read_json(file)
    for key, value in settings.items():
        if found.get(key) != value:
            was, now = changed_entries(found.get(key), value)
            raise UserError(
                f"{file}: of another study: {key} was {was}, is now {now}; give the former, or another --output_dir"
            )
    return found


def changed_entries(was: object, now: object) -> tuple[str, str]:
    """Returns two values as text; of two dictionaries only the entries that differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        keys = [key for key in {**was, **now} if was.get(key) != now.get(key) or (key in was) != (key in now)]
        was, now = ({key: side[key] for key in keys if key in side} for side in (was, now))
    return json.dumps(was)[:200], json.dumps(now)[:200]


def make_shared_datalist(parser: ConfigParser, overrides: dict, knobs: Sequence[Knob]) -> None:
    """Makes the datalist that all runs share, with the first value of every knob. None is left if it is refused."""
    parser.update({**overrides, **{knob.name: knob.first for knob in knobs}})
    file = Path(str(overrides["datalist"]))
    is_new = not file.is_file()
    try:
        parser.get_parsed_content("data")
        if not parser.get_parsed_content("validate::dataset::data"):
            raise UserError(
                f"{file}: found no validation cases, expected one or more, from which each run has its score; "
                "say --validation_share 0.15, or list some under validation"
            )
    except Exception as error:
        if is_new:
            file.unlink(missing_ok=True)
        raise UserError(f"data: {one_line_reason(error)}") from error
