"""Scores every case of an evaluation on its own grid, and ends it with the report."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts import about, cases
from scripts.checkpoint import is_main_process
from scripts.label_maps import read_volume, round_labels
from scripts.report_files import build, write
from scripts.summary import lines

logger = logging.getLogger(__name__)


class CaseScores:
    """Measures each case as it is predicted; at the end writes the report, and the table of it to the log.

    Args:
        output_dir: folder of the report; a `history.csv` in it gives the page its curves.
        class_names: names of the values 0, 1, ...
        network: what predicts.
        weights: file its weights came from.
        data: of `scripts.datalist.prepare`: knows which image is whose.
        datalist: file of the data list.
        split: which part of it is evaluated.
        device: that the network runs on.
        tolerance_mm: surfaces nearer than this agree, for the surface Dice.
        anonymise: True or a secret word: codes in place of the names of cases and patients.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        network: torch.nn.Module,
        weights: str,
        data: dict,
        datalist: str,
        split: str,
        device: torch.device,
        tolerance_mm: float = 2.0,
        anonymise: bool | str = False,
    ):
        self.dir = Path(output_dir)
        self.class_names = list(class_names)
        self.network, self.weights, self.device = network, weights, device
        self.patients = data["patients"]
        self.source = [["Data", data["description"]], ["Data list", f"{datalist}, sha256 {about.digest(datalist)}"]]
        self.source.append(["Split", split])
        self.tolerance_mm, self.anonymise = float(tolerance_mm), anonymise

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
        seconds = (time.perf_counter() - self.started) / len(engine.state.output)
        for item in engine.state.output:
            prediction = item["pred"][0].cpu().numpy().astype(np.uint8)
            truth = round_labels(
                item["label"][0].cpu().numpy(), item["label"].meta["filename_or_obj"], self.class_names
            )
            file = item["pred"].meta["filename_or_obj"]
            self.records.append(
                cases.examine(
                    file,
                    prediction,
                    truth,
                    item["label"].affine.cpu().numpy(),
                    self.class_names,
                    image=read_volume(file)[0],
                    patient=self.patients.get(file),
                    tolerance_mm=self.tolerance_mm,
                    seconds=seconds,
                )
            )

    def finish(self) -> None:
        records = [record for part in gather(self.records) for record in part]
        if not is_main_process():
            return
        model, info = about.of_model(self.network, self.weights)
        content = build(
            records,
            self.class_names,
            [*model, *self.source, *about.of_run(self.device, [record["seconds"] for record in records])],
            tolerance_mm=self.tolerance_mm,
            history=self.dir / "history.csv",
            trained_on=info.get("trained_on", ""),
            anonymise=self.anonymise,
        )
        file = write(content, self.dir)
        for line in lines(content):
            logger.info(line)
        logger.info(f"report: {file}")


def gather(records: list[dict]) -> list[list[dict]]:
    """The records of every process, in all of them."""
    if idist.get_world_size() == 1:
        return [records]
    parts: list = [None] * idist.get_world_size()
    torch.distributed.all_gather_object(parts, records)
    return parts
