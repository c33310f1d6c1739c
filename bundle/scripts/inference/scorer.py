"""Scores every case of an evaluation on its own grid, and writes the report at the end."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts.core.errors import UserError
from scripts.core.files import read_json, write_json
from scripts.data.digests import sha256_of_files
from scripts.data.label_maps import read_volume, refuse_other_grid, round_labels
from scripts.doubt import reliability
from scripts.doubt.handler import PROBABILITY, Doubt
from scripts.doubt.maps import doubt_of
from scripts.inference.case_handler import CaseHandler
from scripts.inference.journal import Journal
from scripts.report import provenance, records
from scripts.report.files import build, write
from scripts.report.schema import CaseRecord
from scripts.report.strips import strips
from scripts.report.summary import lines
from scripts.run import knobs
from scripts.series.index import is_series
from scripts.series.stack import turned_like

logger = logging.getLogger(__name__)


class CaseScorer(CaseHandler):
    """Measures each case as soon as it is predicted. At the end it writes the report, and its table to the log.

    The pictures are kept in `.cases`, because the prediction is not; the journal has everything else.

    Args:
        output_dir: folder of the report; a `history.csv` in it is drawn as curves on the page.
        class_names: names of the values 0, 1, ...
        journal: knows the weights and whether names are to be codes; it is told what became of every case.
        network: makes the predictions.
        cases: of `scripts.data.cases.cases_of_run`; says which image is of which patient.
        split: which part of the datalist is evaluated.
        device: that the network runs on.
        tolerance_mm: surfaces that are no further apart agree, for the surface Dice.
        doubt: takes further looks at every image; None where none are wanted.
    """

    end = Events.EPOCH_COMPLETED

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        journal: Journal,
        network: torch.nn.Module,
        cases: dict,
        split: str,
        device: torch.device,
        tolerance_mm: float = 2.0,
        doubt: Doubt | None = None,
    ):
        super().__init__(output_dir, class_names, journal, network, device)
        self.patients = cases["patients"]
        self.source = [["Data", cases["description"]]]
        if datalist := cases.get("datalist"):
            self.source.append(["Data list", f"{datalist}, sha256 {sha256_of_files(datalist)}"])
            self.source.append(["Split", split])
        knobs.check({"tolerance_mm": tolerance_mm})
        self.tolerance_mm, self.doubt = float(tolerance_mm), doubt

    def add_results(self, engine: Engine, seconds: float) -> None:
        for item, origin in zip(engine.state.output, engine.state.batch):
            self.run_or_note_failure(self.score, origin["source"], origin["digest"], item, seconds)

    def add_earlier_result(self, source: str) -> None:
        file = self.journal.earlier_result(source)
        self.note_kept(source, CaseRecord.from_dict(read_json(file), file, self.class_names))

    def score(self, source: str, digest: str, item: dict, seconds: float) -> None:
        record = self.measure(item, source, seconds)
        self.note_done(source, digest, self.store(record), record, seconds, sealed=True)

    def measure(self, item: dict, source: str, seconds: float) -> CaseRecord:
        """The record with its pictures, which can't be drawn later because the prediction is not kept."""
        label = item["label"]
        prediction = item["pred"][0].cpu().numpy().astype(np.uint8)
        affine = label.affine.cpu().numpy()
        truth = round_labels(label[0].cpu().numpy(), label.meta["filename_or_obj"], self.class_names)
        image, image_affine = read_volume(source)
        if is_series(source):
            truth, affine = turned_like(truth, affine, image_affine)
        refuse_other_grid(label.meta["filename_or_obj"], truth, affine, (image, image_affine), Path(source).name)
        options = {"patient": self.patients.get(source), "tolerance_mm": self.tolerance_mm, "seconds": seconds}
        record = records.measure_case(source, prediction, truth, affine, self.class_names, **options)
        doubtful = None
        if self.doubt:
            probability = item[PROBABILITY].cpu().numpy()
            record.signs, record.worse = self.doubt.signs, self.doubt.worse
            record.expected = self.doubt.expected(record.measures)
            record.reliability = reliability.measure(probability, truth, self.class_names)
            doubtful = doubt_of(probability, prediction, self.doubt.temperature)
        record.pictures = strips(image, truth, prediction, affine, self.class_names, doubtful)
        return record if self.journal.word is None else records.anonymous(record, self.journal.word)

    def store(self, record: CaseRecord) -> str:
        """Keeps the record with its pictures; returns the file's name in the output folder."""
        file = self.stored(record)
        write_json(record.to_dict(), file, indent=None)
        return f".cases/{file.name}"

    def stored(self, record: CaseRecord) -> Path:
        return self.dir / ".cases" / f"{record.case}.json"

    def picture(self, record: CaseRecord, name: str) -> dict:
        """The picture of a class of a case, as it was kept; only those that the page shows are read."""
        pictures = read_json(self.stored(record)).get("pictures", {})
        if name not in pictures:
            raise UserError(f"{self.stored(record)}: no picture of {name!r}; delete this file and evaluate again")
        return pictures[name]

    def write_report(self, records: list[CaseRecord]) -> None:
        model, info = provenance.of_model(self.network, self.journal.weights)
        report = build(
            records,
            self.class_names,
            [
                *model,
                *self.source,
                *provenance.of_pixels(self.patients),
                *provenance.of_run(self.device, [record.seconds for record in records if record.seconds is not None]),
            ],
            tolerance_mm=self.tolerance_mm,
            problems=self.journal.failures(),
            history=self.dir / "history.csv",
            trained_on=info.get("trained_on", ""),
            anonymise=self.journal.word,
            draw=self.picture,
            looks=self.doubt.kind if self.doubt else "",
            temperature=self.doubt.temperature if self.doubt else 1.0,
        )
        file = write(report, self.dir)
        for line in lines(report.summary):
            logger.info(line)
        logger.info(f"report: {file}")
