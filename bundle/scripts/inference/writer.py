"""Has every file of an inference's results made: label maps, pictures, pages, volumes, the report."""

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine

from scripts.data.slices import scan_files
from scripts.doubt.handler import PROBABILITY, Doubt
from scripts.doubt.maps import doubt_of
from scripts.inference import volumes
from scripts.inference.case_handler import CaseHandler
from scripts.inference.formats import OutputFormats
from scripts.inference.journal import Journal
from scripts.inference.maps import PARTIAL, SEG, CaseMaps, map_name, read_map
from scripts.inference.overlays import CaseOverlays
from scripts.inference.pages import CasePages
from scripts.inference.report_parts import motion_between_weeks, painter
from scripts.report import provenance, records
from scripts.report.files import build, write
from scripts.report.schema import CaseRecord

logger = logging.getLogger(__name__)

UNLIKE, EXPECTED, CODES = "unlike", "expected", "codes"  # keys of `run.json`: what the label map alone does not say


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

    tables = (volumes.FILE,)

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
        self.source, self.weeks = source, weeks
        self.overlays = CaseOverlays(self.dir, self.class_names, pictures)
        self.pages = CasePages(self.dir, self.class_names, niivue)
        self.formats = formats or OutputFormats()
        self.doubt = doubt
        self.formats.check(self.images)

    def begin(self) -> None:
        super().begin()
        self.began = time.time()
        self.model, self.info = provenance.of_model(self.network, self.journal.weights)
        self.formats.begin(self.journal.made_with["weights"], self.journal.word)
        self.codes = {CODES: self.formats.codes} if self.formats.names else {}

    def add_results(self, engine: Engine, seconds: float) -> None:
        if engine.state.output:
            case, item = engine.state.batch[0], engine.state.output[0]
            partial = Path(item["pred"].meta["saved_to"])
            probability = item[PROBABILITY].cpu().numpy() if self.doubt else None
            unlike = getattr(engine.state, "unlike", "")
            self.run_or_note_failure(self.finish, case["source"], case["digest"], partial, seconds, probability, unlike)

    def add_earlier_result(self, source: str) -> None:
        result = self.journal.earlier_result(source)
        labels, affine = read_map(result, Path(source), self.class_names)
        shown = self.journal.shown_name(source)
        self.overlays.renew(Path(source), labels, affine, shown, result)
        self.pages.renew(Path(source), labels, affine, shown, result)
        facts = self.journal.earlier_facts(source)
        changed = any(facts.get(key, value) != value for key, value in self.codes.items())
        made_from = None if changed else result
        self.formats.write(source, labels, affine, self.class_names, self.dir / shown, made_from)
        record = self.measure(source, labels, affine, None)
        self.note_kept(source, with_said(record, facts), self.codes)

    def finish(
        self,
        path: str,
        digest: str,
        partial: Path,
        seconds: float,
        probability: np.ndarray | None = None,
        unlike: str = "",
    ) -> None:
        """Makes all files of a case from a new map, and tells the journal.

        Args:
            path: of the image.
            digest: its sha256.
            partial: file of the map.
            seconds: that it took.
            probability: mean of the looks on the grid of the image, if there were any.
            unlike: in what the image is unlike the training data, if it is.
        """
        shown = self.journal.shown_name(path)
        maps = CaseMaps(self.dir, Path(path), shown)
        labels = np.asarray(nib.load(partial).dataobj).astype(np.uint8)
        maps.write_doubt(self.percent(probability, labels))
        output = maps.write_labels(labels, len(self.class_names))
        labels, affine = labels.reshape(maps.shape[:3]), maps.affine
        volume = maps.image() if self.overlays.wanted else None
        picture = self.overlays.draw(volume, labels, affine, shown)
        self.pages.write(Path(path), labels, affine, shown, volume, picture)
        maps.publish(output)
        partial.unlink()
        self.formats.write(path, labels, affine, self.class_names, self.dir / shown)  # a failure keeps the map
        record = self.measure(path, labels, affine, seconds)
        said: dict = self.codes | ({UNLIKE: unlike} if unlike else {})
        if self.doubt:
            record.signs = self.doubt.signs
            if not unlike and (expected := self.doubt.expected(record.measures)):  # no range holds for other kinds
                said[EXPECTED] = expected
        self.note_done(path, digest, output, with_said(record, said), seconds, said=said)

    def percent(self, probability: np.ndarray | None, labels: np.ndarray) -> np.ndarray | None:
        """How doubtful the labels are, or None without any looks."""
        if self.doubt is None or probability is None:
            return None
        return doubt_of(probability, labels.reshape(probability.shape[1:]), self.doubt.temperature)

    def measure(self, source: str, labels: np.ndarray, affine: np.ndarray, seconds: float | None) -> CaseRecord:
        """Volumes and warnings of a case."""
        known = self.info.get("ranges")
        record = records.measure_case(source, labels, None, affine, self.class_names, known=known, seconds=seconds)
        return record if self.journal.word is None else records.anonymous(record, self.journal.word)

    def write_tables(self, records: list[CaseRecord]) -> None:
        volumes.write_volumes(records, self.class_names, self.dir)

    def finish_run(self) -> None:
        super().finish_run()
        if self.journal.is_main:  # what killed processes and failed cases have left
            shutil.rmtree(self.dir / PARTIAL, ignore_errors=True)
            self.say_which_maps_are_older()

    def say_which_maps_are_older(self) -> None:
        """Warns of label maps of failed cases that an earlier run has made: a person may have corrected them."""
        failed = [image for image in self.images if self.journal.has_failed(image)]
        maps = [self.dir / map_name(Path(image), self.journal.shown_name(image), SEG) for image in failed]
        files = [file for one in maps for file in scan_files(one) if file.is_file()]
        older = [file.name for file in files if file.stat().st_mtime < self.began]
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
            motion=motion_between_weeks(self.images, self.journal, self.class_names) if self.weeks else None,
            trained_on=self.info.get("trained_on", ""),
            anonymise=self.journal.word,
            draw=painter(self.images, self.journal, self.class_names) if self.overlays.wanted else None,
            looks=self.doubt.kind if self.doubt else "",
            temperature=self.doubt.temperature if self.doubt else 1.0,
        )
        report.views = self.pages.addresses(record.case for record in records)
        write(report, self.dir)
        warned = sum(bool(record.warnings) for record in records)
        logger.info(
            f"{len(records)} case(s) segmented, {warned} with warnings: label maps, "
            f"{'pictures, ' if self.overlays.wanted else ''}volumes.csv and report.html in {self.dir}"
        )


def with_said(record: CaseRecord, said: dict) -> CaseRecord:
    """The record with the warning and the Dice to be expected that an inference has found."""
    if said.get(UNLIKE):
        record.warnings.insert(0, f"unlike the training data: {said[UNLIKE]}")
    record.expected = said.get(EXPECTED, {})
    return record
