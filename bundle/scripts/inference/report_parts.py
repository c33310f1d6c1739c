"""Parts of an inference's report that are made from the files of its results."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.core.errors import one_line_reason
from scripts.data.label_maps import read_volume
from scripts.data.names import case_name
from scripts.data.slices import is_sliced, scan_exists
from scripts.inference.journal import Journal
from scripts.inference.maps import DOUBT, SEG, read_map
from scripts.report.schema import CaseRecord, Motion
from scripts.report.strips import strip
from scripts.weeks.compare import report_section
from scripts.weeks.scans import scan_of

logger = logging.getLogger(__name__)


def motion_between_weeks(images: Sequence[str], journal: Journal, class_names: Sequence[str]) -> Motion | None:
    """How organs moved between the scans of a patient, from the label maps. A failure is one line in the report."""
    try:
        volumes = [(image, journal.result(image)) for image in images if not is_sliced(image)]
        scans = [scan_of(case_name(image), file) for image, file in volumes if file]
        return report_section(scans, class_names, journal.word)
    except Exception as error:
        reason = one_line_reason(error) if journal.word is None else type(error).__name__
        logger.warning(f"the motion between the weeks could not be measured: {reason}")
        return Motion([], [f"all of them: {reason}"])


def painter(images: Sequence[str], journal: Journal, class_names: Sequence[str]) -> Callable[[CaseRecord, str], dict]:
    """Draws a case from its files, so that only those are drawn that the page shows."""
    by_name = {journal.shown_name(image): image for image in images}

    def draw(record: CaseRecord, name: str) -> dict:
        image = by_name[record.case]
        file = journal.result(image)
        assert file is not None  # it has a record
        labels, affine = read_map(file, Path(image), class_names)
        start, _, end = file.name.rpartition(f"_{SEG}")
        doubt = file.with_name(f"{start}_{DOUBT}{end}")
        known = read_volume(doubt)[0] if scan_exists(doubt) else None
        value = class_names.index(name) if name else None
        return strip(read_volume(image)[0], None, labels, affine, value, known)

    return draw
