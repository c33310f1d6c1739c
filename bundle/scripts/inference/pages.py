"""The pages of an inference: one beside every label map of a volume, where NiiVue is installed."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from scripts.core.errors import one_line_reason
from scripts.core.files import is_newer
from scripts.data.label_maps import read_volume
from scripts.data.slices import is_sliced
from scripts.report import viewer

logger = logging.getLogger(__name__)


class CasePages:
    """Writes `<case>_view.html`.

    Args:
        folder: of the results.
        class_names: names of the values 0, 1, ...
        niivue: what draws the pages, as `scripts.report.viewer.find` takes it.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], niivue: bool | str | None):
        self.folder, self.class_names = folder, class_names
        self.niivue = viewer.find(niivue)

    def file_of(self, case: str) -> Path:
        return self.folder / f"{case}_view.html"

    def addresses(self, cases: Iterable[str]) -> dict[str, str]:
        """Where a page in the same folder finds those of the cases that have one."""
        return {case: quote(self.file_of(case).name) for case in cases if self.file_of(case).is_file()}

    def write(
        self,
        source: Path,
        labels: np.ndarray,
        affine: np.ndarray,
        case: str,
        volume: np.ndarray | None = None,
        picture: Path | None = None,
    ) -> None:
        """Writes the page of a case. An error is one line in the log: the label map matters more.

        Args:
            source: of the image.
            labels: label map.
            affine: voxel to RAS millimetres.
            case: the name that is shown.
            volume: the image, if it has been read.
            picture: the overlay of these labels, if there is one.
        """
        file = self.file_of(case)
        file.unlink(missing_ok=True)  # of an earlier run: it would show other labels
        if self.niivue is None or is_sliced(source):
            return
        try:
            volume = read_volume(source)[0] if volume is None else volume
            if viewer.has_planes(source, volume.shape):
                viewer.write(file, volume, labels, affine, self.class_names, case, self.niivue, picture)
        except Exception as error:
            logger.warning(f"{case}: no page to look at it ({one_line_reason(error)})")

    def renew(self, source: Path, labels: np.ndarray, affine: np.ndarray, case: str, result: Path) -> None:
        """Writes the page of a label map that an earlier run has made, if there is none since it was last edited."""
        if not is_sliced(source) and not is_newer(self.file_of(case), result):
            self.write(source, labels, affine, case)
