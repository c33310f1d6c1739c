"""What inference leaves on disk: label maps on the input's own grid, volumes in ml, pictures, and the report."""

import csv
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts.core.errors import one_line_reason
from scripts.core.files import atomic_write
from scripts.data.label_maps import read_labels, read_volume
from scripts.data.layouts import case_name
from scripts.data.slices import is_picture, is_sliced, write_label_pictures
from scripts.inference.journal import Journal
from scripts.report import provenance, records
from scripts.report.files import build, write
from scripts.report.overlay import overlay

logger = logging.getLogger(__name__)

DESCRIPTION = b"label map, research use only"


class SegmentationWriter:
    """Turns the map that SaveImaged wrote to `.partial` into `<case>_seg.nii.gz`, whole or not at all.

    The header is the input's: affine, form codes and units stay as they were, where SaveImaged would rewrite them.
    Beside the map come `<case>_overlay.png`; for all cases `volumes.csv` (millilitres, background left out) and the
    report: volumes, pictures, and warnings about what is unlike the training data.

    Args:
        output_dir: folder of the results; `.partial` below it is emptied case by case.
        class_names: names of the values 0, 1, ...
        journal: knows the weights and what cases are called, in names of files too; told what becomes of each.
        network: what predicts.
        device: that the network runs on.
        source: what was segmented, for the report.
        pictures: whether to draw the overlays and the report's pictures.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        journal: Journal,
        network: torch.nn.Module,
        device: torch.device,
        source: str = "",
        pictures: bool = True,
    ):
        self.dir = Path(output_dir)
        self.class_names = list(class_names)
        self.journal, self.network, self.device, self.source = journal, network, device, source
        self.pictures = pictures

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.begin_case)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.finish_cases)
        engine.add_event_handler(Events.COMPLETED, self.summarise)

    def begin(self) -> None:
        self.records: list[dict] = []
        self.segmented: list[Path] = []
        self.model, self.info = provenance.of_model(self.network, self.journal.weights)

    def begin_case(self) -> None:
        shutil.rmtree(self.dir / ".partial", ignore_errors=True)  # what a killed run or a failed case has left in it
        self.started = time.perf_counter()

    def finish_cases(self, engine: Engine) -> None:
        seconds = time.perf_counter() - self.started
        batch = engine.state.batch
        if "kept" in batch:
            self.attempt(self.take_up, batch["source"][0])
        elif engine.state.output:
            self.attempt(self.finish, batch[0]["source"], batch[0]["digest"], seconds)

    def attempt(self, call: Callable, source: str, *arguments) -> None:
        try:
            call(Path(source), *arguments)
        except Exception as error:
            self.journal.record_failure(source, one_line_reason(error))

    def take_up(self, source: Path) -> None:
        """Reports on a map that an earlier run has left."""
        file = self.dir / self.journal.reuse(str(source))
        labels, affine = read_labels(file, self.class_names)
        self.add(source, labels, affine, read_volume(source)[0] if self.pictures else None, None)

    def finish(self, source: Path, digest: str, seconds: float) -> None:
        case, shown = case_name(source), self.shown(source)
        (partial,) = (self.dir / ".partial").iterdir()  # SaveImaged has ideas of its own on names like A.NII.GZ
        labels = np.asarray(nib.load(partial).dataobj).astype(np.uint8)
        if is_sliced(source):
            volume, affine = read_volume(source)
            header, shape = nib.Nifti1Header(), volume.shape
        else:
            image = nib.load(source)
            header, affine, shape = image.header.copy(), image.affine, image.shape
            volume = read_volume(source)[0] if self.pictures else None
        ready = partial.with_name(f"{shown}_seg.nii.gz")
        if is_picture(source):
            output = write_label_pictures(labels.reshape(shape), source, self.dir, shown, len(self.class_names))
        else:
            output = ready.name
            self.write_volume(labels.reshape(shape), affine, header, ready, shown != case)
        labels = labels.reshape(shape[:3])
        if self.pictures:
            file = self.dir / f"{shown}_overlay.png"
            overlay(volume, {"prediction": labels}, affine, self.class_names, file, shown)
        if ready.exists():
            os.replace(ready, self.dir / output)
        partial.unlink()
        self.add(source, labels, affine, volume if self.pictures else None, seconds)
        self.journal.record_done(str(source), digest, output, seconds)

    def write_volume(self, labels: np.ndarray, affine: np.ndarray, header, file: Path, anonymous: bool) -> None:
        header.set_data_dtype(np.uint8)
        header["descrip"] = DESCRIPTION
        header["cal_min"], header["cal_max"] = 0, len(self.class_names) - 1
        if anonymous:  # what else may hold a name
            header["db_name"], header["aux_file"], header["intent_name"] = b"", b"", b""
            header.extensions.clear()
        nib.save(nib.Nifti1Image(labels, affine, header), file)

    def shown(self, source: Path) -> str:
        return case_name(source) if self.journal.word is None else self.journal.public_name(str(source))

    def add(self, source: Path, labels: np.ndarray, affine: np.ndarray, volume: np.ndarray | None, seconds) -> None:
        options = {"known": self.info.get("ranges"), "seconds": seconds, "pictures": self.pictures}
        record = records.examine(case_name(source), labels, None, affine, self.class_names, image=volume, **options)
        self.records.append({**record, "shown": self.shown(source)})
        self.segmented.append(source)
        self.write_volumes()

    def write_volumes(self) -> None:
        """After every case, so that a run that is stopped leaves the volumes of what it has done."""
        with atomic_write(self.dir / "volumes.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case", *(f"{name}_ml" for name in self.class_names[1:])])
            for record in self.records:
                volumes = [round(found["predicted_ml"], 3) for found in record["measures"].values()]
                writer.writerow([record["shown"], *volumes])

    def summarise(self) -> None:
        shutil.rmtree(self.dir / ".partial", ignore_errors=True)
        if not self.records:
            return
        content = build(
            self.records,
            self.class_names,
            [
                *self.model,
                ["Input", self.source],
                *provenance.of_pixels(self.segmented),
                *provenance.of_run(self.device, [r["seconds"] for r in self.records if r["seconds"]]),
            ],
            has_truth=False,
            problems=self.journal.failures(),
            trained_on=self.info.get("trained_on", ""),
            anonymise=self.journal.word,
        )
        write(content, self.dir)
        doubtful = sum(bool(record["warnings"]) for record in self.records)
        logger.info(
            f"{len(self.records)} case(s) segmented, {doubtful} with warnings: label maps, pictures, volumes.csv and "
            f"report.html in {self.dir}"
        )
