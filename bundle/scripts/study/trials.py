"""The runs of a study as Optuna keeps them: which wait, which are at work, and the work itself."""

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
from scripts.study.one_run import RUN_LOCK, RunFailed, Runs, RunStopped, measured
from scripts.study.space import Knob

STUDY_LOCK = ".study.lock"  # in a run's folder: the study that runs it is alive
TAKEN_S = 2  # from being taken out of the queue to being locked a run needs less


class Database(RDBStorage):
    """Optuna's, with one taker at a time: SQLite locks no rows, so that two could take the same run."""

    def __init__(self, url: str, lock: Path):
        super().__init__(url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {})
        self.lock = lock

    def set_trial_state_values(self, *args, **kwargs) -> bool:
        with FileLock(self.lock):
            return super().set_trial_state_values(*args, **kwargs)


def connect(name: str, storage: str, folder: Path) -> optuna.Study:
    """Opens a study, or begins it.

    Args:
        name: of the study; a database may hold several.
        storage: the URL of a database, or a file for Optuna's journal.
        folder: of the study.
    """
    try:
        if "://" in storage:
            opened = Database(storage, folder / ".queue.lock")
        else:
            opened = JournalStorage(JournalFileBackend(storage))
        sampler = optuna.samplers.RandomSampler()  # of a grid or a random search all is planned: it draws nothing
        return optuna.create_study(
            study_name=name, storage=opened, sampler=sampler, direction="maximize", load_if_exists=True
        )
    except Exception as error:
        raise UserError(f"storage: the study can't be opened ({one_line_reason(error)})") from error


def queue_up(study: optuna.Study, folder: Path, planned: Sequence[dict], retry_failed: bool = False) -> None:
    """Lets wait what is planned and not there yet, and what was broken off: it goes on in the folder it has.

    Args:
        study: of Optuna.
        folder: of the study.
        planned: what each run draws, by its number.
        retry_failed: whether what failed waits again, too.
    """
    bury(study, folder)
    known = table.latest(study)
    for number in sorted({*known, *range(len(planned))}):
        trial = known.get(number)
        again = ("stopped", "failed") if retry_failed else ("stopped",)
        if trial is None or table.state(trial) in again:
            drawn = {**trial.user_attrs["planned"], **trial.params} if trial else planned[number]
            slot = {"slot": trial.user_attrs["slot"]} if trial and "slot" in trial.user_attrs else {}
            study.enqueue_trial(drawn, user_attrs={"run": number, "planned": drawn, **slot})


def bury(study: optuna.Study, folder: Path) -> None:
    """Ends the trials whose process is no more: it held a lock that the system takes from the dead."""

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
    own = folder / f"run_{number:03d}"
    own.mkdir(exist_ok=True)
    return own


def is_free(file: Path) -> bool:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def work(study: optuna.Study, folder: Path, knobs: Sequence[Knob], runs: Runs) -> None:
    """Does what waits, and after each run says and writes what is known."""
    slots = free_slots(study, folder, runs)
    broken: list[BaseException] = []
    writing = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        try:
            return one_run(trial, folder, knobs, runs, slots)
        except (RunFailed, RunStopped, optuna.TrialPruned):
            raise
        except BaseException as error:  # noqa: B036 - Optuna's threads would swallow it
            broken.append(error)
            raise RunStopped() from error

    def tell(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        with writing:
            found = write(study, folder, knobs)
        waiting = sum(row["state"] == "waiting" for row in found)
        for row in found:
            if row["number"] == trial.user_attrs.get("run"):
                score = "" if row["score"] is None else f", {row['score']:.4f}"
                why = f": {row['reason']}" if row["reason"] else ""
                print(f"run {row['number']}: {row['state']}{score}{why}; {waiting} waiting", flush=True)
        if runs.stopping or broken or not waiting:
            study.stop()

    waiting = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    print(f"{folder}: {len(write(study, folder, knobs))} runs, {waiting} of them to do", flush=True)
    with runs.stoppable():
        if waiting:
            study.optimize(objective, waiting, n_jobs=runs.parallel, catch=(RunFailed, RunStopped), callbacks=[tell])
    if broken:
        raise broken[0]
    conclude(write(study, folder, knobs), knobs, folder, runs)


def free_slots(study: optuna.Study, folder: Path, runs: Runs) -> queue.SimpleQueue:
    """The places for runs; one at which a run outlived the study that began it is free once that run has ended."""
    slots: queue.SimpleQueue = queue.SimpleQueue()
    taken: dict[int, Path] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        own = run_folder(folder, trial.user_attrs.get("run", 0))
        if "slot" in trial.user_attrs and not is_free(own / RUN_LOCK):
            print(f"{own}: its run outlived an earlier study and is still at work; it is waited for", flush=True)
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


def one_run(trial: optuna.Trial, folder: Path, knobs: Sequence[Knob], runs: Runs, slots: queue.SimpleQueue) -> float:
    """The best score of a run that waited; what else is known of it is kept with its trial."""
    number = trial.user_attrs.get("run")
    if number is None:  # the last one that waited was taken by another process: nothing is left to do
        raise optuna.TrialPruned()
    own = run_folder(folder, number)
    with FileLock(own / STUDY_LOCK).acquire(timeout=60):
        slot = slots.get()
        trial.set_user_attr("slot", slot)
        try:
            found = runs.run(own, {knob.name: knob.draw(trial) for knob in knobs}, slot)
        except RunFailed as error:
            keep(trial, measured(own), reason=str(error))
            raise
        finally:
            slots.put(slot)
        keep(trial, found)
        for epoch, value in found["points"]:
            trial.report(value, epoch)
        return found["score"]


def keep(trial: optuna.Trial, found: dict, **more) -> None:
    for key, value in {"epochs": found["epochs"], "seconds": found["seconds"], **more}.items():
        trial.set_user_attr(key, value)


def write(study: optuna.Study, folder: Path, knobs: Sequence[Knob]) -> list[dict]:
    """Writes study.csv and study.png; gives the rows."""
    found = table.rows(study, knobs)
    table.write_csv(found, knobs, folder / "study.csv")
    chart.draw(found, knobs, folder / "study.png", folder.resolve().name)
    return found


def conclude(found: list[dict], knobs: Sequence[Knob], folder: Path, runs: Runs) -> None:
    """Prints the table; the exit status is 1 where runs were broken off or none has a score."""
    print(table.text(found, knobs))
    print(f"table: {folder / 'study.csv'}\npicture: {folder / 'study.png'}")
    states = [row["state"] for row in found]
    if "complete" in states:
        best = table.best_first(found)[0]
        print(f"best: {run_folder(folder, best['number'])}, {best['score']:.4f}. Research use only.")
    left = states.count("stopped") + states.count("waiting")
    if runs.stopping:
        print(f"stopped by {runs.stopping.name}: {left} run(s) left; the same command goes on", file=sys.stderr)
        raise Stopped(128 + runs.stopping)
    if "stopped" in states:
        raise UserError(f"{states.count('stopped')} run(s) were broken off; the same command goes on with them")
    if set(states) == {"failed"}:
        raise UserError(f"all {len(found)} runs failed; {folder / 'study.csv'} has the reasons")
