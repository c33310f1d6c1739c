"""How a training run ends before its time: in one line, with a status that tells why, and with nothing done lost."""

import logging
import os
import re
import signal
import threading
from types import FrameType

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from scripts.core.errors import Stopped, UserError
from scripts.core.files import DISK_FULL, disk_full_message
from scripts.core.processes import is_main_process
from scripts.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

LOWERED = ("batch_size", "spatial_size", "features")  # what memory goes with
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
LOST_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)")


class Interruption:
    """Leaves in order on SIGTERM and SIGINT, and explains a full memory or disk.

    A signal lets the current iteration, or the saving of an epoch, come to its end; a second SIGINT does not wait.
    Nothing is saved then: what lies on disk is the last whole epoch, from which a resumed run repeats the broken one to
    the last bit. To be attached after everything else, the checkpoints above all.

    Processes of one run leave together, be it that only one of them was asked to: one that left alone would have the
    others wait for its gradients.

    Args:
        checkpoints: asked what is saved, and for the settings to name when memory runs out.
        evaluator: validation engine; it is left within an epoch, too.
    """

    def __init__(self, checkpoints: Checkpoints, evaluator: Engine):
        self.checkpoints = checkpoints
        self.evaluator = evaluator
        self.signal: signal.Signals | None = None
        self.replaced: dict = {}

    def attach(self, trainer: Engine) -> None:
        self.trainer = trainer
        trainer.add_event_handler(Events.STARTED, self.begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED, self.leave_if_asked)
        self.evaluator.add_event_handler(Events.STARTED, self.begin_validation)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.leave_validation_if_asked)
        trainer.add_event_handler(Events.COMPLETED, self.end)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self.explain)
        for engine in (trainer, self.evaluator):
            engine.logger.addFilter(no_echo)

    def begin(self) -> None:
        self.signal, self.process, self.alone = None, os.getpid(), idist.get_world_size() == 1
        if threading.current_thread() is threading.main_thread():  # no other may set a signal handler
            self.replaced = {number: signal.signal(number, self.note) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(self) -> None:
        while self.replaced:
            signal.signal(*self.replaced.popitem())

    def note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker inherits the handler; the loader ends its workers itself
            return
        again = self.signal is not None
        self.signal = signal.Signals(number)
        if again and number == signal.SIGINT and self.alone:  # a launcher repeats the terminal's Ctrl-C
            raise KeyboardInterrupt

    def begin_validation(self) -> None:
        self.shared = idist.all_reduce(self.evaluator.state.epoch_length, "MIN")  # some have a case more than others

    def leave_validation_if_asked(self) -> None:
        if self.evaluator.state.iteration <= self.shared:
            self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """To be called by all processes after the same iterations: it ends them all where one was asked to leave."""
        asked = int(idist.all_reduce(int(self.signal or 0), "MAX"))
        if asked:
            self.signal = signal.Signals(asked)
            raise Stopped(128 + asked)

    def explain(self, engine: Engine, error: BaseException) -> None:
        """Ends the run with what the error means to a user, or with the error itself."""
        together = isinstance(error, Stopped) and not self.alone
        if together:  # a launcher, which ends all once one has left, is not to change the status of the others
            self.replaced = dict.fromkeys(self.replaced, signal.SIG_IGN)
        self.end()
        if self.signal is not None and not isinstance(error, UserError):  # workers that the signal ended fail as well
            if is_main_process():
                logger.warning(self.farewell())
            if together:
                idist.barrier()
            raise Stopped(128 + self.signal) from None
        if is_out_of_memory(error):
            raise UserError(self.too_large(error)) from error
        if isinstance(error, RuntimeError) and LOST_WORKER.search(str(error)):
            raise UserError(
                f"epoch {engine.state.epoch}: a process that prepares the data was ended from outside "
                f"({str(error).splitlines()[0][:160]}); mostly memory or shared memory is full: lower num_workers"
            ) from error
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise UserError(disk_full_message(self.checkpoints.dir / (error.filename or "a file"), error)) from error
        raise error

    def farewell(self) -> str:
        epoch, saved = self.trainer.state.epoch, self.checkpoints.saved_epoch
        if saved:
            rest = (
                f"epoch {saved} is saved in {self.checkpoints.dir}; the same command with --resume True goes on from it"
            )
        else:
            rest = "no epoch was complete, so nothing is saved; the same command starts anew"
        return f"stopped by {self.signal.name} {'after' if saved == epoch else 'in'} epoch {epoch}: {rest}"

    def too_large(self, error: BaseException) -> str:
        state, settings = self.trainer.state, self.checkpoints.settings
        now = ", ".join(f"{name} (now {settings[name]})" for name in LOWERED if name in settings)
        first = (str(error).splitlines() or [""])[0].split(". ")[0][:120]
        return (
            f"epoch {state.epoch}, iteration {state.iteration}: out of memory ({type(error).__name__}: {first}); lower "
            f"{now or 'the size of a batch'}, or say --network_def::checkpointing True"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """torch has a class of its own for a GPU; on a CPU it is a RuntimeError that only its text tells from others."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def no_echo(record: logging.LogRecord) -> bool:
    """Drops ignite's note of an exception: it is raised all the same, and a user reads one line, not two."""
    return "terminating due to exception" not in record.getMessage()
