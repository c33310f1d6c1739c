"""What the handlers of inference and of evaluation have in common: they do something to every case, and then report.

A case's record goes into the journal at once and is read back for the report. So the report has the cases of all
processes, and no process holds more in memory than figures.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from scripts.core.errors import one_line_reason
from scripts.core.files import rename_previous
from scripts.inference.journal import Journal
from scripts.report.files import FILES
from scripts.report.schema import CaseRecord


class CaseHandler:
    """Calls a method of its own for every case and one at the end. A case that fails does not stop the others.

    A subclass has `add_results` for a batch that was predicted in this run, `add_earlier_result` for a case that an
    earlier run has finished, and `write_report`, which the main process calls once, after the event `end` of all
    processes, with the records of all cases, if there are any. `write_tables` is called whenever `run.json` has been
    brought up to date.

    Args:
        output_dir: folder of the results.
        class_names: names of the values 0, 1, ...
        journal: knows the weights and whether names are to be codes; it is told what became of every case.
        network: makes the predictions.
        device: that the network runs on.
    """

    end = Events.COMPLETED
    tables: Sequence[str] = ()  # files of `write_tables`

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

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.begin_case)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.finish_batch)
        engine.add_event_handler(self.end, self.finish_run)

    def begin(self) -> None:
        self.journal.open()

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

    def note_done(
        self,
        source: str,
        digest: str,
        output: str,
        record: CaseRecord,
        seconds: float,
        sealed: bool = False,
        said: dict | None = None,
    ) -> None:
        """Tells the journal of a result, with all that the report needs of it but its pictures."""
        facts = replace(record, pictures={}).to_dict()
        if self.journal.record_done(source, digest, output, seconds, sealed, facts, said):
            self.write_tables(self.known_records())

    def note_kept(self, source: str, record: CaseRecord, said: dict | None = None) -> None:
        """Tells the journal that the result of an earlier run stands, and what has changed of it."""
        if self.journal.record_kept(source, replace(record, pictures={}).to_dict(), said):
            self.write_tables(self.known_records())

    def known_records(self) -> list[CaseRecord]:
        """The records that the journal knows, in the order of `run.json`."""
        return [CaseRecord(**facts) for facts in self.journal.records()]

    def finish_run(self) -> None:
        """Ends the record; in the main process it then has the cases of all processes, and makes the report."""
        if self.journal.finish():
            records = self.known_records()
            if records:
                self.write_tables(records)
                self.write_report(records)
            else:  # those of an earlier run would seem to be of this one
                for name in (*FILES, *self.tables):
                    rename_previous(self.dir / name)

    def add_results(self, engine: Engine, seconds: float) -> None:
        raise NotImplementedError

    def add_earlier_result(self, source: str) -> None:
        raise NotImplementedError

    def write_tables(self, records: list[CaseRecord]) -> None:
        """Nothing, where a handler has no table beside the report."""

    def write_report(self, records: list[CaseRecord]) -> None:
        raise NotImplementedError
