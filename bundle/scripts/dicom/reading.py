"""Opens SEG and RTSTRUCT objects of any program: what they hold, and which images they refer to."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.core.errors import UserError
from scripts.dicom.identity import without_warnings
from scripts.series.files import DicomFile, first_line, is_dicom
from scripts.series.headers import open_dataset

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


@dataclass(frozen=True)
class Structure:
    """A structure of a file.

    Attributes:
        number: of the segment or region.
        name: as the file has it.
        code: its code, or "".
        is_outer: whether it is the outline of the patient.
    """

    number: int
    name: str
    code: str = ""
    is_outer: bool = False


@dataclass(frozen=True)
class StructureFile:
    """A SEG or an RTSTRUCT.

    Attributes:
        path: of the file.
        content: its data set.
        images: UIDs of the images that it refers to.
        frames_of_reference: UIDs of its coordinate systems.
        structures: what it holds.
    """

    path: Path
    content: Any
    images: frozenset[str]
    frames_of_reference: frozenset[str]
    structures: tuple[Structure, ...]

    @property
    def is_segmentation(self) -> bool:
        return self.content.SOPClassUID in SEGMENTATIONS


@without_warnings()
def open_structures(path: str | Path) -> StructureFile:
    """Opens a SEG or an RTSTRUCT.

    Raises:
        UserError: the file is neither, or is damaged.
    """
    if not is_dicom(path):
        raise UserError(
            f"{path}: found no DICOM file (no marker DICM), expected a SEG or an RTSTRUCT; correct the path"
        )
    try:
        with DicomFile(str(path)).open() as stream:
            content = open_dataset(stream)
        kind = content.get("SOPClassUID", "")
        if kind in SEGMENTATIONS:
            return StructureFile(Path(path), content, *segmentation_references(content), segments_of(content))
        if kind == STRUCTURE_SET:
            return StructureFile(Path(path), content, *structure_references(content), regions_of(content))
    except Exception as error:  # pydicom raises many kinds for a damaged file
        raise unreadable(path, error) from error
    name = getattr(kind, "name", kind) or "an object of no kind"
    raise UserError(f"{path}: found {name}, expected a SEG or an RTSTRUCT; name such a file with --files")


def unreadable(path: str | Path, error: Exception) -> UserError:
    reason = first_line(error)
    return UserError(f"{path}: not readable ({reason}); expected a whole SEG or RTSTRUCT, export it again")


def items(content: Any, *sequences: str) -> Iterator[Any]:
    """The items of sequences within sequences; one that is missing counts as empty."""
    first, *rest = sequences
    for item in content.get(first) or []:
        if rest:
            yield from items(item, *rest)
        else:
            yield item


def uids(found: Iterator[Any], name: str) -> frozenset[str]:
    """The UIDs that items have; one that is empty names nothing."""
    return frozenset(str(item[name].value) for item in found if item.get(name))


def segmentation_references(content: Any) -> tuple[frozenset[str], frozenset[str]]:
    found = items(content, "ReferencedSeriesSequence", "ReferencedInstanceSequence")
    return uids(found, "ReferencedSOPInstanceUID"), uids(iter([content]), "FrameOfReferenceUID")


def structure_references(content: Any) -> tuple[frozenset[str], frozenset[str]]:
    frame, image = "ReferencedFrameOfReferenceSequence", "ContourImageSequence"
    listed = items(content, frame, "RTReferencedStudySequence", "RTReferencedSeriesSequence", image)
    drawn = items(content, "ROIContourSequence", "ContourSequence", image)
    images = uids(listed, "ReferencedSOPInstanceUID") | uids(drawn, "ReferencedSOPInstanceUID")
    return images, uids(items(content, frame), "FrameOfReferenceUID")


def segments_of(content: Any) -> tuple[Structure, ...]:
    """The segments of a SEG, without a background that is described."""
    return tuple(
        Structure(
            int(item.SegmentNumber), text(item, "SegmentLabel"), code_in(item, "SegmentedPropertyTypeCodeSequence")
        )
        for item in items(content, "SegmentSequence")
        if int(item.SegmentNumber) > 0
    )


def regions_of(content: Any) -> tuple[Structure, ...]:
    """The regions of an RTSTRUCT."""
    observed = {int(item.ReferencedROINumber): item for item in items(content, "RTROIObservationsSequence")}
    made = []
    for item in items(content, "StructureSetROISequence"):
        number = int(item.ROINumber)
        seen = observed.get(number, {})
        outer = text(seen, "RTROIInterpretedType").upper() == "EXTERNAL"
        made.append(Structure(number, text(item, "ROIName"), code_in(seen, "RTROIIdentificationCodeSequence"), outer))
    return tuple(made)


def text(item: Any, name: str) -> str:
    """A text, printable and on one line."""
    value = " ".join(str(item.get(name) or "").split())
    return "".join(letter if letter.isprintable() else "?" for letter in value)


def code_in(item: Any, sequence: str) -> str:
    return next((text(code, "CodeValue") for code in item.get(sequence) or []), "")
