"""What a DICOM object says of its origin: the model, codes of classes, and UIDs that the same input gives again.

A UID names one content only. So nothing in a file depends on the clock: dates are those of the series.
"""

import hashlib
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.core.paths import CONFIGS, METADATA
from scripts.series.writer import uid_of

logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells of every module that it copies

SEGMENTS = CONFIGS / "segments.json"
RESEARCH_ONLY = "research use only"
LABEL = "RESEARCH ONLY"  # a content label has 16 characters at most, capitals
MADE_BY = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
ROI_TYPES = ("", "EXTERNAL", "ORGAN", "GTV", "CTV", "PTV", "AVOIDANCE", "CAVITY", "SUPPORT", "MARKER", "CONTROL")
NO_ROOT = "2.25"
LONGEST_ROOT = 40  # leaves 23 digits of a UID's 64 characters
LONGEST_NAME = 64  # of a segment, a region or a model
CODE_LENGTHS = (16, 16, 64)  # of a code, its scheme and its meaning


@dataclass(frozen=True)
class Segment:
    """What DICOM calls a class.

    Attributes:
        code: value, coding scheme and meaning of the structure.
        category: the same of the kind of structure.
        roi_type: its RT ROI Interpreted Type, "" if none is known.
        known: whether the class is in the file of codes.
    """

    code: tuple[str, str, str] = ("91723000", "SCT", "Anatomical Structure")
    category: tuple[str, str, str] = ("123037004", "SCT", "Anatomical Structure")
    roi_type: str = ""
    known: bool = False


@dataclass(frozen=True)
class About:
    """The origin of a segmentation.

    Attributes:
        model: name of the model, or of whoever made the label map.
        version: of the model.
        weights: sha256 of the weights, or "".
        uid_root: root of new UIDs; nobody has to register 2.25.
        word: None for files with the patient's name; otherwise the secret word of the codes that replace it.
        made_by: AUTOMATIC, SEMIAUTOMATIC or MANUAL.
        segments: what DICOM calls the classes, by class name.
    """

    model: str
    version: str
    weights: str = ""
    uid_root: str = NO_ROOT
    word: str | None = None
    made_by: str = "AUTOMATIC"
    segments: dict[str, Segment] = field(default_factory=dict)

    def segment(self, name: str) -> Segment:
        """What DICOM calls a class; a general code if the file of codes does not name it."""
        return self.segments.get(name, Segment())

    def uid(self, *parts: str) -> str:
        """A new UID. The same parts give the same one."""
        return uid_of("\n".join([self.model, self.version, self.weights, self.made_by, *parts]), self.uid_root)

    def outer_class(self, class_names: list[str]) -> int | None:
        """The number of the class that is the outline of the patient."""
        found = (n for n, name in enumerate(class_names) if n and self.segment(name).roi_type == "EXTERNAL")
        return next(found, None)


def about_bundle(
    weights: str = "",
    uid_root: str | None = None,
    word: str | None = None,
    made_by: str = "AUTOMATIC",
    segments: str | Path | None = None,
    model: str | None = None,
    version: str | None = None,
) -> About:
    """What the files say when this bundle makes them. See `About` for the arguments.

    Raises:
        UserError: an argument or the file of codes has no usable value.
    """
    metadata = read_json(METADATA)
    name = str(model or metadata["name"])
    if len(name) > LONGEST_NAME or "\\" in name:
        raise UserError(f"--model {name}: expected at most {LONGEST_NAME} characters without a backslash")
    if made_by not in MADE_BY:
        raise UserError(f"--made_by {made_by}: expected one of {', '.join(MADE_BY)}")
    known = read_segments(Path(segments) if segments else SEGMENTS)
    return About(
        name, str(version or metadata["version"]), weights, checked_root(str(uid_root or NO_ROOT)), word, made_by, known
    )


def checked_root(root: str) -> str:
    """Returns a root of UIDs without a final dot."""
    root = root.rstrip(".")
    if not re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", root) or len(root) > LONGEST_ROOT:
        raise UserError(
            f"--uid_root {root}: expected numbers with dots between, such as 1.2.826.0.1, none with a leading zero, "
            f"{LONGEST_ROOT} characters at most; leave it out if you have none"
        )
    return root


def shown_name(name: str) -> str:
    """The name of a class as DICOM can hold it."""
    return name.replace("\\", "/")[:LONGEST_NAME]


def digest(array: np.ndarray) -> str:
    """The sha256 of an array's content and shape."""
    content = hashlib.sha256(str((array.shape, array.dtype.str)).encode())
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def read_segments(file: Path) -> dict[str, Segment]:
    """Reads what DICOM calls the classes.

    Raises:
        UserError: the file is no such JSON.
    """
    try:
        content = read_json(file)
    except OSError as error:
        raise UserError(f"{file}: not readable ({error.strerror}); expected a JSON file of codes") from error
    return {name: one_segment(file, name, entry) for name, entry in content.items() if not name.startswith("_")}


def one_segment(file: Path, name: str, entry: object) -> Segment:
    general = Segment()
    given = entry if isinstance(entry, dict) else {}
    roi_type = given.get("roi_type", "")
    code, category = (
        one_code(file, name, part) for part in (given.get("code"), given.get("category", general.category))
    )
    if roi_type not in ROI_TYPES:
        raise UserError(f'{file}: "{name}" has the roi_type {roi_type!r}, expected one of {", ".join(ROI_TYPES[1:])}')
    return Segment(code, category, roi_type, True)


def one_code(file: Path, name: str, part: object) -> tuple[str, str, str]:
    texts = [text for text in part if isinstance(text, str)] if isinstance(part, list | tuple) else []
    fits = [0 < len(text.strip()) <= most and "\\" not in text for text, most in zip(texts, CODE_LENGTHS)]
    if len(texts) != 3 or not all(fits):
        raise UserError(
            f'{file}: "{name}" has {str(part)[:60]}, expected three texts: a code (16 characters at most), its scheme '
            "(16) and its meaning (64)"
        )
    return texts[0], texts[1], texts[2]
