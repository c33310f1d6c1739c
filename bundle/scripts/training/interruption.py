"""How a training run that is interrupted or fails ends: with one line, an exit status, and no completed epoch lost."""

import logging
import os
import re
import signal
import threading
from types import FrameType

import ignite.distributed as idist
from ignite.engine import Engine, Events

from scripts.core.errors import Stopped, UserError, is_out_of_memory
from scripts.core.files import DISK_FULL, disk_full_message
from scripts.core.kinds import bare
from scripts.core.processes import is_main_process
from scripts.run.words import is_bundle_command
from scripts.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

LOWERED = ("batch_size", "slices_per_scan", "spatial_size")  # lowering one of these saves memory
LOST_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)")


class Interruption:
    """Ends a run cleanly on SIGTERM and SIGINT, and explains errors that mean a full memory or disk.

    After a signal, the current iteration is completed, or the saving of the current epoch; a second SIGINT does not
    wait for that. Nothing more is saved then: the last complete epoch is already on disk, and a resumed run repeats
    the interrupted one with the same results to the last bit. This is attached after everything else, the checkpoints
    above all.

    The processes of a distributed run end together, even if only one of them received the signal. If one ended alone,
    the others would wait for its gradients for ever.

    Args:
        checkpoints: knows which epoch is saved, and the settings to lower when memory runs out.
        evaluator: validation engine; a signal ends it within an epoch, too.
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
        if threading.current_thread() is threading.main_thread():  # Python allows no other to set a signal handler
            self.replaced = {number: signal.signal(number, self.note) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(self) -> None:
        while self.replaced:
            signal.signal(*self.replaced.popitem())

    def note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker process inherits this handler; the loader ends its workers itself
            return
        again = self.signal is not None
        self.signal = signal.Signals(number)
        if again and number == signal.SIGINT and self.alone:  # a launcher repeats the terminal's Ctrl-C
            raise KeyboardInterrupt

    def begin_validation(self) -> None:
        self.shared = idist.all_reduce(self.evaluator.state.epoch_length, "MIN")  # some processes have one case more

    def leave_validation_if_asked(self) -> None:
        if self.evaluator.state.iteration <= self.shared:
            self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Ends all processes if one of them received a signal. All of them must call this after the same iterations."""
        asked = int(idist.all_reduce(int(self.signal or 0), "MAX"))
        if asked:
            self.signal = signal.Signals(asked)
            raise Stopped(128 + asked)

    def explain(self, engine: Engine, error: BaseException) -> None:
        """Raises an error that tells a user what to do, or the error itself where nothing better is known."""
        together = isinstance(error, Stopped) and not self.alone
        if together:  # a launcher sends signals once the first process has ended; the others keep their exit status
            self.replaced = dict.fromkeys(self.replaced, signal.SIG_IGN)
        self.end()
        if self.signal is not None and not isinstance(
            error, UserError
        ):  # workers that the signal has ended raise errors as well
            if is_main_process():
                logger.warning(self.farewell(self.signal))
            if together:
                idist.barrier()
            if self.signal == signal.SIGINT and not is_bundle_command():  # Python's own way to end by Ctrl-C
                raise KeyboardInterrupt from None
            raise Stopped(128 + self.signal) from None
        if is_out_of_memory(error):
            raise UserError(self.too_large(error)) from error
        if isinstance(error, RuntimeError) and LOST_WORKER.search(str(error)):
            raise UserError(
                f"epoch {engine.state.epoch}: a process that prepares the data was killed from outside "
                f"({str(error).splitlines()[0][:160]}); usually memory or shared memory is full: lower num_workers"
            ) from error
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise UserError(disk_full_message(self.checkpoints.dir / (error.filename or "a file"), error)) from error
        raise error

    def farewell(self, received: signal.Signals) -> str:
        epoch, saved = self.trainer.state.epoch, self.checkpoints.saved_epoch
        if saved:
            rest = (
                f"epoch {saved} is saved in {self.checkpoints.dir}; the same command with --resume True resumes from it"
            )
        else:
            rest = "no epoch was complete, so nothing is saved; the same command starts again at epoch 1"
        when = "before epoch 1" if epoch == 0 else f"{'after' if saved == epoch else 'in'} epoch {epoch}"
        return f"stopped by {received.name} {when}: {rest}"

    def too_large(self, error: BaseException) -> str:
        state, settings = self.trainer.state, self.checkpoints.identity.knobs
        own = hasattr(bare(self.checkpoints.network), "checkpointing")  # the network of this bundle has more to offer
        names = [name for name in (*LOWERED, *(["features"] if own else [])) if name in settings]
        now = ", ".join(f"{name} (now {settings[name]})" for name in names)
        first = (str(error).splitlines() or [""])[0].split(". ")[0][:120]
        return (
            f"epoch {state.epoch}, iteration {state.iteration}: out of memory ({type(error).__name__}: {first}); lower "
            f"{now or 'the size of a batch'}" + (", or say --network_def::checkpointing True" if own else "")
        )


def no_echo(record: logging.LogRecord) -> bool:
    """Drops ignite's log line on an exception: the exception is shown anyway, and one line is enough."""
    return "terminating due to exception" not in record.getMessage()
