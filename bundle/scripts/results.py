"""What inference leaves on disk: label maps on the input's own grid, volumes in ml, pictures, and the report."""

import csv
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts import about, cases
from scripts.codes import case_code, secret
from scripts.files import whole
from scripts.label_maps import read_volume
from scripts.layouts import case_name, scan_key
from scripts.pictures import overlay
from scripts.report_files import build, write

logger = logging.getLogger(__name__)

DESCRIPTION = b"label map, research use only"


class Results:
    """Turns the map that SaveImaged wrote to `.partial` into `<case>_seg.nii.gz`, whole or not at all.

    The header is the input's: affine, form codes and units stay as they were, where SaveImaged would rewrite them.
    Beside the map come `<case>_overlay.png`; for all cases `volumes.csv` (millilitres, background left out) and the
    report: volumes, pictures, and warnings about what is unlike the training data.

    Args:
        output_dir: folder of the results; `.partial` below it is emptied case by case.
        class_names: names of the values 0, 1, ...
        network: what predicts.
        weights: file its weights came from.
        device: that the network runs on.
        source: what was segmented, for the report.
        pictures: whether to draw the overlays and the report's pictures.
        anonymise: True or a secret word: codes in place of the names of cases and patients, in names of files too.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        network: torch.nn.Module,
        weights: str,
        device: torch.device,
        source: str = "",
        pictures: bool = True,
        anonymise: bool | str = False,
    ):
        self.dir = Path(output_dir)
        self.class_names = list(class_names)
        self.network, self.weights, self.device, self.source = network, weights, device, source
        self.pictures, self.anonymise = pictures, anonymise
        self.records: list[dict] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.begin_case)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.finish_cases)
        engine.add_event_handler(Events.COMPLETED, self.summarise)

    def begin(self) -> None:
        self.model, self.info = about.of_model(self.network, self.weights)

    def begin_case(self) -> None:
        self.started = time.perf_counter()

    def finish_cases(self, engine: Engine) -> None:
        seconds = (time.perf_counter() - self.started) / len(engine.state.output)
        for item in engine.state.output:
            self.finish(Path(item["pred"].meta["filename_or_obj"]), seconds)

    def finish(self, source: Path, seconds: float | None = None) -> None:
        case, word = case_name(source), secret(self.anonymise)
        shown = case if word is None else case_code(case, scan_key(case)[0], word)
        partial = self.dir / ".partial" / f"{case}_seg.nii"
        labels = np.asarray(nib.load(partial).dataobj).astype(np.uint8)
        image = nib.load(source)
        header = image.header.copy()
        header.set_data_dtype(np.uint8)
        header["descrip"] = DESCRIPTION
        header["cal_min"], header["cal_max"] = 0, len(self.class_names) - 1
        if word is not None:  # what else may hold a name
            header["db_name"], header["aux_file"], header["intent_name"] = b"", b"", b""
            header.extensions.clear()
        ready = partial.with_name(f"{shown}_seg.nii.gz")
        nib.save(nib.Nifti1Image(labels.reshape(image.shape), image.affine, header), ready)
        os.replace(ready, self.dir / ready.name)
        partial.unlink()
        volume = read_volume(source)[0] if self.pictures else None
        labels = labels.reshape(image.shape[:3])
        record = cases.examine(
            case,
            labels,
            None,
            image.affine,
            self.class_names,
            image=volume,
            known=self.info.get("ranges"),
            seconds=seconds,
            pictures=self.pictures,
        )
        self.records.append({**record, "shown": shown})
        self.write_volumes()
        if self.pictures:
            file = self.dir / f"{shown}_overlay.png"
            overlay(volume, {"prediction": labels}, image.affine, self.class_names, file, shown)

    def write_volumes(self) -> None:
        """After every case, so that a run that is stopped leaves the volumes of what it has done."""
        with whole(self.dir / "volumes.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case", *(f"{name}_ml" for name in self.class_names[1:])])
            for record in self.records:
                volumes = [round(found["predicted_ml"], 3) for found in record["measures"].values()]
                writer.writerow([record["shown"], *volumes])

    def summarise(self) -> None:
        shutil.rmtree(self.dir / ".partial")  # with what a killed run may have left in it
        content = build(
            self.records,
            self.class_names,
            [*self.model, ["Input", self.source], *about.of_run(self.device, [r["seconds"] for r in self.records])],
            has_truth=False,
            trained_on=self.info.get("trained_on", ""),
            anonymise=self.anonymise,
        )
        write(content, self.dir)
        doubtful = sum(bool(record["warnings"]) for record in self.records)
        logger.info(
            f"{len(self.records)} case(s) segmented, {doubtful} with warnings: label maps, pictures, volumes.csv and "
            f"report.html in {self.dir}"
        )
