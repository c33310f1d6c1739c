"""The pictures of an inference: one of every label map over its image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.core.files import is_newer
from scripts.data.label_maps import read_volume
from scripts.data.slices import slice_files
from scripts.report.overlay import overlay


class CaseOverlays:
    """Draws `<case>_overlay.png`.

    Args:
        folder: of the results.
        class_names: names of the values 0, 1, ...
        wanted: False removes the pictures of an earlier run, which would show other labels.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], wanted: bool):
        self.folder, self.class_names, self.wanted = folder, class_names, wanted

    def file_of(self, case: str) -> Path:
        return self.folder / f"{case}_overlay.png"

    def draw(self, volume: np.ndarray | None, labels: np.ndarray, affine: np.ndarray, case: str) -> Path | None:
        """Draws the picture of a case.

        Args:
            volume: the image; it is needed only where pictures are wanted.
            labels: label map.
            affine: voxel to RAS millimetres.
            case: the name that is shown.

        Returns:
            Its file, or None.
        """
        file = self.file_of(case)
        file.unlink(missing_ok=True)
        if volume is None or not self.wanted:
            return None
        overlay(volume, {"prediction": labels}, affine, self.class_names, file, case)
        return file

    def renew(self, source: Path, labels: np.ndarray, affine: np.ndarray, case: str, result: Path) -> None:
        """Draws a label map that an earlier run has made, if there is no picture since it was last edited."""
        if not all(is_newer(self.file_of(case), file) for file in slice_files(result).values()):
            self.draw(read_volume(source)[0] if self.wanted else None, labels, affine, case)
