"""What inference writes beside the NIfTI label map, if the image is a DICOM series: SEG, RTSTRUCT, and the image itself
as NIfTI. The writer of the label maps uses it.
"""

import gzip
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.core.extras import require
from scripts.core.files import atomic_write, is_newer
from scripts.data.names import AS_NIFTI
from scripts.dicom.about import About, about_bundle
from scripts.dicom.commands import ENDINGS, WRITERS
from scripts.series.index import is_series
from scripts.series.reader import read_series, read_stack
from scripts.series.stack import nifti_image

logger = logging.getLogger(__name__)

LABEL_MAP, IMAGE, CONTOURS = "nifti", "image", "rtstruct"


class OutputFormats:
    """The files of a case beside its label map.

    Args:
        names: of the formats. `nifti` is the label map itself, which is written in any case; `image` is the image as
            NIfTI; the others are those of `scripts.dicom.commands.ENDINGS`.
        uid_root: root of new UIDs; None for 2.25, which nobody has to register.
        segments: JSON file with the codes of the classes; None for that of the bundle.
    """

    def __init__(self, names: Sequence[str] = (LABEL_MAP,), uid_root: str | None = None, segments: str | None = None):
        self.names = [name for name in dict.fromkeys(names) if name != LABEL_MAP]
        self.uid_root, self.segments = uid_root, segments
        self.about: About

    def check(self, images: Sequence[str]) -> None:
        """Refuses images that have no DICOM to refer to, and a machine without the packages.

        Raises:
            UserError: the first such image, or the missing package.
        """
        if not self.names:
            return
        other = next((image for image in images if not is_series(image)), None)
        if other is not None:
            raise UserError(
                f"{other}: output_formats has {', '.join(self.names)}, which refers to the DICOM series of the image, "
                "and this is none; name a DICOM folder with --dataset_dir, or say --output_formats \"['nifti']\""
            )
        if set(self.names) & WRITERS.keys():
            for package in ("highdicom", *(["contourpy"] if CONTOURS in self.names else [])):
                require(package, "dicom", f"output_formats {', '.join(self.names)}")
            about_bundle("", self.uid_root, segments=self.segments)  # finds a mistake in these before any case

    @property
    def codes(self) -> str:
        """A digest of what a file says of its classes and of its own number."""
        text = Path(self.segments).read_text(encoding="utf-8") if self.segments else ""
        return hashlib.sha256(f"{self.uid_root}\0{text}".encode()).hexdigest()

    def begin(self, weights: str, word: str | None) -> None:
        """Prepares what every file says of its origin.

        Args:
            weights: sha256 of the weights.
            word: secret word of the codes in place of names, or None.
        """
        self.about = about_bundle(weights, self.uid_root, word, segments=self.segments)

    def write(
        self,
        source: str | Path,
        labels: np.ndarray,
        affine: np.ndarray,
        class_names: Sequence[str],
        start: Path,
        made_from: Path | None = None,
    ) -> None:
        """Writes the files of a case.

        Args:
            source: path of the series.
            labels: label map on its grid.
            affine: of the label map.
            class_names: names of the values 0, 1, ...
            start: what the paths of the files begin with.
            made_from: file of the label map, where an earlier run has made it; files that are newer stay as they are.
        """
        if not is_series(source):
            return
        endings = ENDINGS | {IMAGE: f"{AS_NIFTI}.nii.gz"} if IMAGE in self.names else ENDINGS
        files = {name: start.with_name(start.name + ending) for name, ending in endings.items()}
        files = {name: file for name, file in files.items() if not (made_from and is_newer(file, made_from))}
        for file in files.values():  # of an earlier run: they would show other labels, also what is not asked for now
            file.unlink(missing_ok=True)
        files = {name: file for name, file in files.items() if name in self.names}
        if not files:
            return
        stack = read_stack(source)
        frames = stack.to_frames(labels, affine)
        for name, file in files.items():
            if name == IMAGE:
                write_image(source, file)
            elif not WRITERS[name](frames, stack, class_names, file, self.about):
                logger.warning(f"{file.name}: not written, as the label map has no class")


def write_image(source: str | Path, file: Path) -> None:
    """Writes a series as a compressed NIfTI file; no name of a person is in it."""
    image = nifti_image(*read_series(source))
    with atomic_write(file) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
