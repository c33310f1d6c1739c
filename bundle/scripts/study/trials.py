"""The runs of a study in Optuna's storage: queues them, runs them and writes the results. `command.py` uses it."""

import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from scripts.core.errors import Stopped, UserError, one_line_reason
from scripts.study import chart, table
from scripts.study.one_run import RUN_LOCK, RunFailedError, RunLauncher, RunStoppedError, read_progress
from scripts.study.space import Knob

STUDY_LOCK = ".study.lock"  # in a run's folder; it is held as long as the study that started the run is alive
TAKEN_S = 2  # a run is locked less than this after it was taken from the queue


class Database(RDBStorage):
    """Optuna's storage with a lock. SQLite does not lock rows, so without it two processes could take the same run."""

    def __init__(self, url: str, lock: Path):
        super().__init__(url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {})
        self.lock = lock

    def set_trial_state_values(self, *args, **kwargs) -> bool:
        with FileLock(self.lock):
            return super().set_trial_state_values(*args, **kwargs)


def open_study(name: str, storage: str, folder: Path) -> optuna.Study:
    """Opens a study, or creates it.

    Args:
        name: name of the study; a database may contain several.
        storage: the URL of a database, or a file for Optuna's journal.
        folder: folder of the study.
    """
    try:
        if "://" in storage:
            opened = Database(storage, folder / ".queue.lock")
        else:
            opened = JournalStorage(JournalFileBackend(storage))
        sampler = optuna.samplers.RandomSampler()  # never used: grid and random search are planned
        return optuna.create_study(
            study_name=name, storage=opened, sampler=sampler, direction="maximize", load_if_exists=True
        )
    except Exception as error:
        raise UserError(
            f"storage: the study can't be opened ({one_line_reason(error)}); give another --storage"
        ) from error


def queue_trials(study: optuna.Study, folder: Path, planned: Sequence[dict], retry_failed: bool = False) -> None:
    """Queues the planned runs that do not exist yet, and the runs that were stopped. These continue in their folders.

    Args:
        study: the study of Optuna.
        folder: folder of the study.
        planned: the values for each run, by its number.
        retry_failed: whether failed runs are queued again as well.
    """
    end_dead_trials(study, folder)
    known = table.latest_trials(study)
    for number in sorted({*known, *range(len(planned))}):
        trial = known.get(number)
        again = ("stopped", "failed") if retry_failed else ("stopped",)
        if trial is None or table.run_state(trial) in again:
            drawn = {**trial.user_attrs["planned"], **trial.params} if trial else planned[number]
            slot = {"slot": trial.user_attrs["slot"]} if trial and "slot" in trial.user_attrs else {}
            study.enqueue_trial(drawn, user_attrs={"run": number, "planned": drawn, **slot})


def end_dead_trials(study: optuna.Study, folder: Path) -> None:
    """Marks running trials as failed if their process has ended. The lock of such a trial is free."""

    def dead() -> set[int]:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        of_runs = {trial.number: trial.user_attrs["run"] for trial in running if "run" in trial.user_attrs}
        return {trial for trial, run in of_runs.items() if is_free(run_folder(folder, run) / STUDY_LOCK)}

    found = dead()
    if found:
        time.sleep(TAKEN_S)
        for number in found & dead():
            study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def run_folder(folder: Path, number: int) -> Path:
    """Returns the folder of a run, and creates it if needed."""
    own = folder / f"run_{number:03d}"
    own.mkdir(exist_ok=True)
    return own


def is_free(file: Path) -> bool:
    """Returns whether no process holds a lock."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def run_trials(study: optuna.Study, folder: Path, knobs: Sequence[Knob], runs: RunLauncher) -> None:
    """Runs everything in the queue. After each run it prints the result and writes the table and the picture."""
    slots = free_slots(study, folder, runs)
    broken: list[BaseException] = []
    writing = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        try:
            return run_trial(trial, folder, knobs, runs, slots)
        except (RunFailedError, RunStoppedError, optuna.TrialPruned):
            raise
        except BaseException as error:  # noqa: B036 - Optuna's threads would hide it
            broken.append(error)
            raise RunStoppedError() from error

    def report_progress(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        with writing:
            found = write_results(study, folder, knobs)
        waiting = sum(row["state"] == "waiting" for row in found)
        for row in found:
            if row["number"] == trial.user_attrs.get("run"):
                score = "" if row["score"] is None else f", {row['score']:.4f}"
                why = f": {row['reason']}" if row["reason"] else ""
                print(f"run {row['number']}: {row['state']}{score}{why}; {waiting} waiting", flush=True)
        if runs.stopping or broken or not waiting:
            study.stop()

    waiting = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    print(f"{folder}: {len(write_results(study, folder, knobs))} runs, {waiting} of them to do", flush=True)
    with runs.stoppable():
        if waiting:
            study.optimize(
                objective,
                waiting,
                n_jobs=runs.parallel,
                catch=(RunFailedError, RunStoppedError),
                callbacks=[report_progress],
            )
    if broken:
        raise broken[0]
    report_result(write_results(study, folder, knobs), knobs, folder, runs)


def free_slots(study: optuna.Study, folder: Path, runs: RunLauncher) -> queue.SimpleQueue:
    """Returns the free slots. A slot whose run is still alive from an earlier study becomes free when that run ends."""
    slots: queue.SimpleQueue = queue.SimpleQueue()
    taken: dict[int, Path] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        own = run_folder(folder, trial.user_attrs.get("run", 0))
        if "slot" in trial.user_attrs and not is_free(own / RUN_LOCK):
            print(f"{own}: its run has outlived an earlier study; waiting for it to end", flush=True)
            taken[trial.user_attrs["slot"] % runs.parallel] = own

    def free(slot: int) -> None:
        runs.wait_for_orphan(taken[slot])
        slots.put(slot)

    for slot in range(runs.parallel):
        if slot in taken:
            threading.Thread(target=free, args=(slot,), daemon=True).start()
        else:
            slots.put(slot)
    return slots


def run_trial(
    trial: optuna.Trial, folder: Path, knobs: Sequence[Knob], runs: RunLauncher, slots: queue.SimpleQueue
) -> float:
    """Runs a queued trial and returns its best score. Everything else about it is stored with the trial."""
    number = trial.user_attrs.get("run")
    if number is None:  # another process took the last run from the queue
        raise optuna.TrialPruned()
    own = run_folder(folder, number)
    with FileLock(own / STUDY_LOCK).acquire(timeout=60):
        slot = slots.get()
        trial.set_user_attr("slot", slot)
        try:
            found = runs.run(own, {knob.name: knob.draw(trial) for knob in knobs}, slot)
        except RunFailedError as error:
            store_result(trial, read_progress(own), reason=str(error))
            raise
        finally:
            slots.put(slot)
        store_result(trial, found)
        for epoch, value in found["points"]:
            trial.report(value, epoch)
        return found["score"]


def store_result(trial: optuna.Trial, found: dict, **more) -> None:
    """Stores epochs, seconds and other values with a trial."""
    for key, value in {"epochs": found["epochs"], "seconds": found["seconds"], **more}.items():
        trial.set_user_attr(key, value)


def write_results(study: optuna.Study, folder: Path, knobs: Sequence[Knob]) -> list[dict]:
    """Writes study.csv and study.png, and returns the rows."""
    found = table.result_rows(study, knobs)
    table.write_table(found, knobs, folder / "study.csv")
    chart.draw_chart(found, knobs, folder / "study.png", folder.resolve().name)
    return found


def report_result(found: list[dict], knobs: Sequence[Knob], folder: Path, runs: RunLauncher) -> None:
    """Prints the table. The exit status is 1 if runs were stopped or have failed."""
    print(table.table_text(found, knobs))
    print(f"table: {folder / 'study.csv'}\npicture: {folder / 'study.png'}")
    states = [row["state"] for row in found]
    if "complete" in states:
        best = table.best_first(found)[0]
        print(f"best: {run_folder(folder, best['number'])}, {best['score']:.4f}. Research use only.")
    left = states.count("stopped") + states.count("waiting")
    if runs.stopping:
        print(f"stopped by {runs.stopping.name}: {left} run(s) left; the same command continues", file=sys.stderr)
        raise Stopped(128 + runs.stopping)
    if "stopped" in states:
        raise UserError(f"{states.count('stopped')} run(s) were stopped; start the same command again to continue them")
    if "failed" in states:
        raise UserError(
            f"{states.count('failed')} of {len(found)} runs failed; see the reasons in {folder / 'study.csv'}; "
            "--retry_failed True runs them again"
        )
