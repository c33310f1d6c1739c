"""What the handlers of inference and of evaluation have in common: they do something to every case, and then report."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from scripts.core.errors import one_line_reason
from scripts.inference.journal import Journal
from scripts.report.schema import CaseRecord


class CaseHandler:
    """Calls a method of its own for every case and one at the end. A case that fails does not stop the others.

    A subclass has `add_results` for a batch that was predicted in this run, `add_earlier_result` for a case that an
    earlier run has finished, and `write_report`, which is called once at the event `end`.

    Args:
        output_dir: folder of the results.
        class_names: names of the values 0, 1, ...
        journal: knows the weights and whether names are to be codes; it is told what became of every case.
        network: makes the predictions.
        device: that the network runs on.
    """

    end = Events.COMPLETED

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        journal: Journal,
        network: torch.nn.Module,
        device: torch.device,
    ):
        self.dir = Path(output_dir)
        self.class_names = list(class_names)
        self.journal, self.network, self.device = journal, network, device
        self.records: list[CaseRecord] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.begin_case)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.finish_batch)
        engine.add_event_handler(self.end, self.write_report)

    def begin(self) -> None:
        self.records = []

    def begin_case(self) -> None:
        self.started = time.perf_counter()

    def finish_batch(self, engine: Engine) -> None:
        seconds = time.perf_counter() - self.started
        batch = engine.state.batch
        if "kept" in batch:
            self.run_or_note_failure(self.add_earlier_result, batch["source"][0])
        else:
            self.add_results(engine, seconds)

    def run_or_note_failure(self, call: Callable, source: str, *arguments) -> None:
        """Does something to a case; an error is one line in the journal and the log."""
        try:
            call(source, *arguments)
        except Exception as error:
            self.journal.record_failure(source, one_line_reason(error))

    def add_results(self, engine: Engine, seconds: float) -> None:
        raise NotImplementedError

    def add_earlier_result(self, source: str) -> None:
        raise NotImplementedError

    def write_report(self) -> None:
        raise NotImplementedError
