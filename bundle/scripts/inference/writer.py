"""Writes the results of inference: label maps on the input's own grid, volumes in ml, pictures, and the report."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine

from scripts.core.errors import one_line_reason
from scripts.core.files import is_newer, write_csv
from scripts.data.label_maps import read_labels, read_volume
from scripts.data.names import case_name
from scripts.data.slices import (
    is_picture,
    is_sliced,
    picture_names,
    scan_exists,
    slice_files,
    write_label_pictures,
    write_pictures,
)
from scripts.doubt.handler import PROBABILITY, Doubt
from scripts.doubt.maps import doubt_of
from scripts.inference.case_handler import CaseHandler
from scripts.inference.formats import OutputFormats
from scripts.inference.journal import Journal
from scripts.inference.map_files import grid_of, write_map
from scripts.inference.pages import CasePages
from scripts.report import provenance, records
from scripts.report.files import build, write
from scripts.report.overlay import overlay
from scripts.report.schema import CaseRecord, Motion
from scripts.report.strips import strip
from scripts.weeks.compare import report_section
from scripts.weeks.scans import scan_of

logger = logging.getLogger(__name__)

UNLIKE, EXPECTED = "unlike", "expected"  # keys of `run.json`: what the label map alone does not say
COLUMNS = ("expected_dice", "dice_low", "dice_high", "ml_low", "ml_high")  # columns of volumes.csv for each class


class SegmentationWriter(CaseHandler):
    """Turns the map that SaveImaged wrote to `.partial` into `<case>_seg.nii.gz`, complete or not at all.

    The header is that of the input: affine, form codes and units stay as they were, where SaveImaged would rewrite
    them. Where several looks were taken, `<case>_doubt.nii.gz` says how doubtful every voxel is. Each map has a
    picture, `<case>_overlay.png`, and where NiiVue is installed a page, `<case>_view.html`. All cases together have
    `volumes.csv` (in millilitres, without the background) and the report: volumes, pictures, and warnings about what
    is unlike the training data.

    Args:
        output_dir: folder of the results; `.partial` in it is removed at the end.
        class_names: names of the values 0, 1, ...
        journal: knows the weights and whether names are to be codes; it is told what became of every case.
        network: makes the predictions.
        device: that the network runs on.
        images: dictionaries with an `image` path each, the cases of all processes.
        source: what was segmented, for the report.
        pictures: whether to draw the overlays and the report's pictures.
        weeks: whether to measure how organs moved, where a patient has several scans and the classes have bones.
        niivue: what draws the pages, as `scripts.report.viewer.find` takes it.
        formats: the files beside the label map; None for none.
        doubt: takes further looks at every image; None where none are wanted.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        journal: Journal,
        network: torch.nn.Module,
        device: torch.device,
        images: Sequence[dict],
        source: str = "",
        pictures: bool = True,
        weeks: bool = True,
        niivue: bool | str | None = False,
        formats: OutputFormats | None = None,
        doubt: Doubt | None = None,
    ):
        super().__init__(output_dir, class_names, journal, network, device)
        self.images = [str(item["image"]) for item in images]
        self.source, self.pictures, self.weeks = source, pictures, weeks
        self.pages = CasePages(self.dir, self.class_names, niivue)
        self.formats = formats or OutputFormats()
        self.doubt = doubt
        self.formats.check(self.images)

    def begin(self) -> None:
        super().begin()
        self.began = time.time()
        self.model, self.info = provenance.of_model(self.network, self.journal.weights)
        self.formats.begin(self.journal.made_with["weights"], self.journal.word)

    def add_results(self, engine: Engine, seconds: float) -> None:
        if engine.state.output:
            case, item = engine.state.batch[0], engine.state.output[0]
            partial = Path(item["pred"].meta["saved_to"])
            probability = item[PROBABILITY].cpu().numpy() if self.doubt else None
            unlike = getattr(engine.state, "unlike", "")
            self.run_or_note_failure(self.finish, case["source"], case["digest"], partial, seconds, probability, unlike)

    def add_earlier_result(self, source: str) -> None:
        result = self.journal.earlier_result(source)
        labels, affine = read_labels(result, self.class_names)
        start = self.dir / self.shown_name(Path(source))
        if not all(is_newer(self.overlay_of(start.name), file) for file in slice_files(result).values()):
            self.draw(read_volume(Path(source))[0] if self.pictures else None, labels, affine, start.name)
        self.pages.renew(Path(source), labels, affine, start.name, result)
        self.formats.write(source, labels, affine, self.class_names, start, made_from=result)
        record = self.measure(source, labels, affine, None)
        self.note_kept(source, with_said(record, self.journal.earlier_facts(source)))

    def finish(
        self,
        path: str,
        digest: str,
        partial: Path,
        seconds: float,
        probability: np.ndarray | None = None,
        unlike: str = "",
    ) -> None:
        """Moves a new map to its place, with the header of its image, and tells the journal.

        Args:
            path: of the image.
            digest: its sha256.
            partial: file of the map.
            seconds: that it took.
            probability: mean of the looks on the grid of the image, if there were any.
            unlike: in what the image is unlike the training data, if it is.
        """
        source = Path(path)
        case, shown = case_name(source), self.shown_name(source)
        labels = np.asarray(nib.load(partial).dataobj).astype(np.uint8)
        volume: np.ndarray | None
        if is_sliced(source):
            volume, affine = read_volume(source)
            header, shape = nib.Nifti1Header(), volume.shape
        else:
            header, affine, shape = grid_of(source)
            volume = read_volume(source)[0] if self.pictures else None
        self.write_doubt(probability, labels, source, shape, affine, header)
        ready = partial.with_name(f"{shown}_seg.nii.gz")
        if is_picture(source):
            output = write_label_pictures(labels.reshape(shape), source, self.dir, shown, len(self.class_names))
        else:
            output = ready.name
            highest = len(self.class_names) - 1
            write_map(labels.reshape(shape), affine, header, ready, "seg", highest, shown != case)
        labels = labels.reshape(shape[:3])
        picture = self.draw(volume if self.pictures else None, labels, affine, shown)
        self.pages.write(source, labels, affine, shown, volume, picture)
        if ready.exists():
            os.replace(ready, self.dir / output)
        partial.unlink()
        self.formats.write(source, labels, affine, self.class_names, self.dir / shown)  # a failure keeps the map
        record = self.measure(path, labels, affine, seconds)
        said: dict = {UNLIKE: unlike} if unlike else {}
        if self.doubt:
            record.signs = self.doubt.signs
            if not unlike and (expected := self.doubt.expected(record.measures)):  # no range holds for other kinds
                said[EXPECTED] = expected
        self.note_done(path, digest, output, with_said(record, said), seconds, said=said)

    def overlay_of(self, shown: str) -> Path:
        return self.dir / f"{shown}_overlay.png"

    def draw(self, volume: np.ndarray | None, labels: np.ndarray, affine: np.ndarray, shown: str) -> Path | None:
        """Draws the label map over its image, if there is one; a picture of an earlier run would show other labels."""
        picture = self.overlay_of(shown)
        picture.unlink(missing_ok=True)
        if volume is None:
            return None
        overlay(volume, {"prediction": labels}, affine, self.class_names, picture, shown)
        return picture

    def write_doubt(
        self, probability: np.ndarray | None, labels: np.ndarray, source: Path, shape: tuple, affine, header
    ) -> None:
        """Writes how doubtful the labels are, in percent; without any looks it removes the files of an earlier run."""
        shown = self.shown_name(source)
        if self.doubt is None or probability is None:
            names = picture_names(source, shown, "doubt") if is_picture(source) else [f"{shown}_doubt.nii.gz"]
            for name in names:
                (self.dir / name).unlink(missing_ok=True)
            return
        labels = labels.reshape(probability.shape[1:])
        doubt = doubt_of(probability, labels, self.doubt.temperature).reshape(shape)
        if is_picture(source):
            write_pictures(doubt, source, self.dir, shown, "doubt")
        else:
            partial = self.dir / ".partial" / f"{shown}_doubt.nii.gz"
            write_map(doubt, affine, header, partial, "doubt", 100, shown != case_name(source))
            os.replace(partial, self.dir / partial.name)

    def shown_name(self, source: Path) -> str:
        """The name of a case, or its code."""
        return case_name(source) if self.journal.word is None else self.journal.public_name(str(source))

    def measure(self, source: str, labels: np.ndarray, affine: np.ndarray, seconds: float | None) -> CaseRecord:
        """Volumes and warnings of a case."""
        known = self.info.get("ranges")
        record = records.measure_case(
            case_name(source), labels, None, affine, self.class_names, known=known, seconds=seconds
        )
        return record if self.journal.word is None else records.anonymous(record, self.journal.word)

    def write_tables(self, records: list[CaseRecord]) -> None:
        """Writes `volumes.csv`; where a Dice is expected, with that and with the ranges."""
        columns = [f"{name}_ml" for name in self.class_names[1:]]
        if any(record.expected for record in records):
            columns += [f"{name}_{what}" for name in self.class_names[1:] for what in COLUMNS]
        rows = []
        for record in records:
            numbers = {f"{name}_ml": found["predicted_ml"] for name, found in record.measures.items()}
            for name, found in record.expected.items():
                values = found["dice"], *found["dice_range"], *found["ml_range"]
                numbers |= zip((f"{name}_{what}" for what in COLUMNS), values)
            known = {column: round(numbers[column], 3) for column in columns if column in numbers}
            rows.append([record.case, *map(known.get, columns)])
        write_csv([["case", *columns], *rows], self.dir / "volumes.csv")

    def finish_run(self) -> None:
        super().finish_run()
        if self.journal.is_main:  # what killed processes and failed cases have left
            shutil.rmtree(self.dir / ".partial", ignore_errors=True)
            self.say_which_maps_are_older()

    def say_which_maps_are_older(self) -> None:
        """Warns of label maps of failed cases that an earlier run has made: a person may have corrected them."""
        failed = [image for image in self.images if self.journal.has_failed(image)]
        maps = [self.dir / f"{self.shown_name(Path(image))}_seg.nii.gz" for image in failed]
        older = [file.name for file in maps if file.is_file() and file.stat().st_mtime < self.began]
        if older:
            logger.warning(
                f"{self.dir}: {', '.join(older[:3])}{', ...' if len(older) > 3 else ''} of an earlier run, since "
                f"{len(older)} case(s) failed now; move away what is not to be used"
            )

    def write_report(self, records: list[CaseRecord]) -> None:
        report = build(
            records,
            self.class_names,
            [
                *self.model,
                ["Input", self.source],
                *provenance.of_pixels(self.images),
                *provenance.of_run(self.device, [r.seconds for r in records if r.seconds]),
            ],
            has_truth=False,
            problems=self.journal.failures(),
            motion=self.motion() if self.weeks else None,
            trained_on=self.info.get("trained_on", ""),
            anonymise=self.journal.word,
            draw=self.painter() if self.pictures else None,
            looks=self.doubt.kind if self.doubt else "",
            temperature=self.doubt.temperature if self.doubt else 1.0,
        )
        report.views = self.pages.addresses(record.case for record in records)
        write(report, self.dir)
        warned = sum(bool(record.warnings) for record in records)
        logger.info(
            f"{len(records)} case(s) segmented, {warned} with warnings: label maps, "
            f"{'pictures, ' if self.pictures else ''}volumes.csv and report.html in {self.dir}"
        )

    def motion(self) -> Motion | None:
        """How organs moved between the scans of a patient, from the label maps. A failure is one line in the report."""
        try:
            done = {image: self.journal.cases.get(self.journal.public_name(image), {}) for image in self.images}
            outputs = {image: case["output"] for image, case in done.items() if "output" in case}
            volumes = [(image, self.dir / output) for image, output in outputs.items() if not is_sliced(image)]
            scans = [scan_of(case_name(image), file) for image, file in volumes]
            return report_section(scans, self.class_names, self.journal.word)
        except Exception as error:
            reason = one_line_reason(error) if self.journal.word is None else type(error).__name__
            logger.warning(f"the motion between the weeks could not be measured: {reason}")
            return Motion([], [f"all of them: {reason}"])

    def painter(self) -> Callable[[CaseRecord, str], dict]:
        """Draws a case from its files, so that only those are drawn that the page shows."""
        images = {self.shown_name(Path(image)): image for image in self.images}

        def draw(record: CaseRecord, name: str) -> dict:
            image = images[record.case]
            output = self.journal.cases[self.journal.public_name(image)]["output"]
            labels, affine = read_labels(self.dir / output, self.class_names)
            start, _, end = output.rpartition("_seg")
            doubt = self.dir / f"{start}_doubt{end}"
            known = read_volume(doubt)[0] if scan_exists(doubt) else None
            value = self.class_names.index(name) if name else None
            return strip(read_volume(image)[0], None, labels, affine, value, known)

        return draw


def with_said(record: CaseRecord, said: dict) -> CaseRecord:
    """The record with the warning and the Dice to be expected that an inference has found."""
    if said.get(UNLIKE):
        record.warnings.insert(0, f"unlike the training data: {said[UNLIKE]}")
    record.expected = said.get(EXPECTED, {})
    return record
