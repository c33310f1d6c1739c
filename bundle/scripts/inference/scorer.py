"""Scores every case of an evaluation on its own grid, and ends it with the report."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts.core.errors import one_line_reason
from scripts.core.files import read_json, write_json
from scripts.core.processes import gather, is_main_process
from scripts.data.digests import sha256_of_files
from scripts.data.label_maps import read_volume, refuse_other_grid, round_labels
from scripts.inference.journal import Journal
from scripts.report import provenance, records
from scripts.report.files import build, write
from scripts.report.summary import lines
from scripts.run import knobs

logger = logging.getLogger(__name__)


class CaseScorer:
    """Measures each case as it is predicted; at the end writes the report, and the table of it to the log.

    Args:
        output_dir: folder of the report; a `history.csv` in it gives the page its curves.
        class_names: names of the values 0, 1, ...
        journal: knows the weights and whether names are to be codes; told what becomes of every case.
        network: what predicts.
        data: of `scripts.data.datalist.prepare_datalist`: knows which image is whose.
        datalist: file of the data list.
        split: which part of it is evaluated.
        device: that the network runs on.
        tolerance_mm: surfaces nearer than this agree, for the surface Dice.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        journal: Journal,
        network: torch.nn.Module,
        data: dict,
        datalist: str,
        split: str,
        device: torch.device,
        tolerance_mm: float = 2.0,
    ):
        self.dir = Path(output_dir)
        self.class_names = list(class_names)
        self.journal, self.network, self.device = journal, network, device
        self.patients = data["patients"]
        self.source = [["Data", data["description"]], ["Data list", f"{datalist}, sha256 {sha256_of_files(datalist)}"]]
        self.source.append(["Split", split])
        knobs.check({"tolerance_mm": tolerance_mm})
        self.tolerance_mm = float(tolerance_mm)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.begin_case)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def begin(self) -> None:
        self.records: list[dict] = []

    def begin_case(self) -> None:
        self.started = time.perf_counter()

    def add(self, engine: Engine) -> None:
        seconds = time.perf_counter() - self.started
        batch = engine.state.batch
        if "kept" in batch:
            self.attempt(self.take_up, batch["source"][0])
        for item, origin in zip(engine.state.output, batch):
            self.attempt(self.score, origin["source"], origin["digest"], item, seconds)

    def attempt(self, call: Callable, source: str, *arguments) -> None:
        try:
            call(source, *arguments)
        except Exception as error:
            self.journal.record_failure(source, one_line_reason(error))

    def take_up(self, source: str) -> None:
        self.records.append(read_json(self.dir / self.journal.reuse(source)))

    def score(self, source: str, digest: str, item: dict, seconds: float) -> None:
        record = self.measure(item, source, seconds)
        self.journal.record_done(source, digest, self.store(record), seconds, sealed=True)
        self.records.append(record)

    def measure(self, item: dict, source: str, seconds: float) -> dict:
        label = item["label"]
        prediction = item["pred"][0].cpu().numpy().astype(np.uint8)
        affine = label.affine.cpu().numpy()
        truth = round_labels(label[0].cpu().numpy(), label.meta["filename_or_obj"], self.class_names)
        image, image_affine = read_volume(source)
        refuse_other_grid(label.meta["filename_or_obj"], truth, affine, (image, image_affine), Path(source).name)
        options = {"patient": self.patients.get(source), "tolerance_mm": self.tolerance_mm, "seconds": seconds}
        record = records.examine(source, prediction, truth, affine, self.class_names, image=image, **options)
        return record if self.journal.word is None else records.anonymous(record, self.journal.word)

    def store(self, record: dict) -> str:
        """Keeps the record for a run that goes on from this one; returns the file's name in the output folder."""
        file = self.dir / ".cases" / f"{record['case']}.json"
        write_json(record, file, indent=None)
        return f".cases/{file.name}"

    def finish(self) -> None:
        parts = gather((self.records, self.journal.cases))
        records = [record for part, _ in parts for record in part]
        for _, noted in parts:
            self.journal.cases |= noted
        if not is_main_process():
            return
        self.journal.write()
        if not records:
            return
        model, info = provenance.of_model(self.network, self.journal.weights)
        content = build(
            records,
            self.class_names,
            [
                *model,
                *self.source,
                *provenance.of_pixels(self.patients),
                *provenance.of_run(self.device, [record["seconds"] for record in records]),
            ],
            tolerance_mm=self.tolerance_mm,
            problems=self.journal.failures(),
            history=self.dir / "history.csv",
            trained_on=info.get("trained_on", ""),
            anonymise=self.journal.word,
        )
        file = write(content, self.dir)
        for line in lines(content):
            logger.info(line)
        logger.info(f"report: {file}")
