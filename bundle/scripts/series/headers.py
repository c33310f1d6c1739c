"""What a DICOM file says of itself, read with distrust: its series, and where each of its frames is.

`index.py` uses this module.
"""

import logging
import warnings
import zlib
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, BinaryIO

from scripts.core.extras import require
from scripts.series.files import LARGEST_FILE, DicomFile

MR = "1.2.840.10008.5.1.4.1.1.4"
MULTI_FRAME = (f"{MR}.1", f"{MR}.4")  # enhanced MR, and the same made from single frames
CT = "1.2.840.10008.5.1.4.1.1.2"
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax
LENGTH_OF_META = slice(140, 144)  # the value of the first element: how long the group is that names the transfer syntax
TELLING_APART = (  # headers by which two images of one place differ, in the order in which they are tried
    "EchoTime",
    "EchoNumbers",
    "ImageType",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "InversionTime",
    "FlipAngle",
    "AcquisitionNumber",
)
WANTED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "PatientID",
    "StudyDate",
    "SeriesDate",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    *TELLING_APART,
)
LARGEST_AXIS = 2**14  # pixels
MOST_FRAMES = 2**14
SPACING_MM = (0.01, 100.0)


@dataclass(frozen=True)
class Frame:
    """One slice: a file, or a frame of one.

    Attributes:
        file: that holds it.
        number: of the frame in the file, from 1.
        uid: of the instance.
        position: of the centre of its first pixel, in DICOM's millimetres.
        orientation: directions along its rows and along its columns.
        spacing: distance of the rows and distance of the columns in mm.
        size: rows and columns.
        tags: the values of `TELLING_APART` as text.
    """

    file: DicomFile
    number: int
    uid: str
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]
    tags: tuple[str, ...] = ()


@dataclass
class Header:
    """What a file says of its series.

    Attributes:
        file: the file.
        series: UID of the series.
        facts: other headers as text, by keyword.
        frames: its slices, or nothing if it holds none.
        fault: why it holds none, or None.
    """

    file: DicomFile
    series: str
    facts: dict[str, str]
    frames: list[Frame] = field(default_factory=list)
    fault: str | None = None


def open_dataset(stream: BinaryIO, **options) -> Any:
    """Reads a DICOM file with pydicom.

    Raises:
        ValueError: it is a deflated file that unpacks to more than a file may have.
        Exception: of many kinds, if the file is damaged.
    """
    pydicom = quiet_pydicom()
    start = stream.read(LENGTH_OF_META.stop)
    if DEFLATED in stream.read(int.from_bytes(start[LENGTH_OF_META], "little")):
        refuse_bomb(stream)
    stream.seek(0)
    return pydicom.dcmread(stream, **options)


@cache
def quiet_pydicom() -> ModuleType:
    """pydicom, which from now on does not print what it thinks of each value in a file."""
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return require("pydicom", "dicom", "DICOM files")


def refuse_bomb(stream: BinaryIO) -> None:
    """Unpacks the rest of a stream in small pieces, and refuses it if there is no end of them."""
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    packed = stream.read(2**16)
    while packed and not unpacker.eof:
        size += len(unpacker.decompress(packed, 2**20))
        if size > LARGEST_FILE:
            raise ValueError(f"unpacks to more than {LARGEST_FILE:,} bytes")
        packed = unpacker.unconsumed_tail or stream.read(2**16)


def read_header(file: DicomFile) -> Header:
    """Reads what is needed to sort a file and to place its slices.

    Raises:
        Exception: of many kinds, if the file is damaged.
    """
    with file.open() as stream:
        found = open_dataset(stream, stop_before_pixels=True, specific_tags=list(WANTED))
        several = str(found.get("SOPClassUID", "")) in MULTI_FRAME
        if several:
            stream.seek(0)
            found = open_dataset(stream, stop_before_pixels=True)
    facts = {word: text_of(found, word) for word in WANTED}
    header = Header(file, facts["SeriesInstanceUID"], facts)
    header.fault = image_fault(found)
    if header.fault is None:
        header.frames = frames_of(file, found) if several else [single_frame(file, found)]
    return header


def image_fault(found: Any) -> str | None:
    """Says why a file holds no slice that can be placed in space, or returns None."""
    if not found.get("SeriesInstanceUID") or not found.get("SOPInstanceUID"):
        return "no SeriesInstanceUID or SOPInstanceUID, so it is of no series"
    kind = found.get("SOPClassUID", "")
    if "Rows" not in found or "Columns" not in found:
        return f"{getattr(kind, 'name', kind) or 'an object of no kind'}: no image"
    if not 1 <= int(found.Rows) <= LARGEST_AXIS or not 1 <= int(found.Columns) <= LARGEST_AXIS:
        return f"{found.Rows} x {found.Columns} pixels, expected at most {LARGEST_AXIS} along an axis"
    if found.get("SamplesPerPixel", 1) != 1:
        return f"a colour image ({found.get('PhotometricInterpretation', 'several values a pixel')})"
    if found.get("PhotometricInterpretation", "MONOCHROME2") != "MONOCHROME2":
        return f"{found.PhotometricInterpretation}, expected MONOCHROME2"
    if kind in MULTI_FRAME:
        return None
    if int(found.get("NumberOfFrames") or 1) > 1:
        return f"{getattr(kind, 'name', kind)}: several frames, which are read of enhanced MR only"
    missing = [
        word for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not found.get(word)
    ]
    return f"no {missing[0]}, so nobody knows where it is" if missing else None


def text_of(found: Any, word: str) -> str:
    """A header as text on one line; nothing if it is empty or missing."""
    value = found.get(word)
    return "" if value is None else " ".join(str(value).split())


def single_frame(file: DicomFile, found: Any) -> Frame:
    return Frame(
        file,
        1,
        str(found.SOPInstanceUID),
        numbers(found.ImagePositionPatient, 3, "ImagePositionPatient"),
        numbers(found.ImageOrientationPatient, 6, "ImageOrientationPatient"),
        checked_spacing(found.PixelSpacing),
        (int(found.Rows), int(found.Columns)),
        tuple(text_of(found, word) for word in TELLING_APART),
    )


def frames_of(file: DicomFile, found: Any) -> list[Frame]:
    """The frames of an enhanced file, from the functional groups that all or single frames have."""
    shared = (found.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = found.get("PerFrameFunctionalGroupsSequence") or []
    if not 1 <= len(groups) <= MOST_FRAMES or len(groups) != int(found.get("NumberOfFrames") or 0):
        raise ValueError(f"found the places of {len(groups)} frames, expected those of {found.get('NumberOfFrames')}")

    def value(group: Any, sequence: str, word: str, default: Any = None) -> Any:
        for holder in (group, shared):
            if holder is not None and holder.get(sequence):
                return holder[sequence].value[0].get(word, default)
        return default

    return [
        Frame(
            file,
            number,
            str(found.SOPInstanceUID),
            numbers(value(group, "PlanePositionSequence", "ImagePositionPatient"), 3, "ImagePositionPatient"),
            numbers(value(group, "PlaneOrientationSequence", "ImageOrientationPatient"), 6, "ImageOrientationPatient"),
            checked_spacing(value(group, "PixelMeasuresSequence", "PixelSpacing")),
            (int(found.Rows), int(found.Columns)),
            (
                str(value(group, "MREchoSequence", "EffectiveEchoTime", "")),
                "",
                str(value(group, "MRImageFrameTypeSequence", "FrameType", "")),
                str(value(group, "FrameContentSequence", "TemporalPositionIndex", "")),
                str(value(group, "MRDiffusionSequence", "DiffusionBValue", "")),
                "",
                "",
                str(value(group, "FrameContentSequence", "FrameAcquisitionNumber", "")),
            ),
        )
        for number, group in enumerate(groups, start=1)
    ]


def numbers(values: Any, count: int, word: str) -> tuple[float, ...]:
    found = tuple(float(value) for value in values) if values is not None else ()
    if len(found) != count or not all(abs(value) < 1e6 for value in found):
        raise ValueError(f"{word} is {values}, expected {count} numbers")
    return found


def checked_spacing(values: Any) -> tuple[float, ...]:
    found = numbers(values, 2, "PixelSpacing")
    if not all(SPACING_MM[0] <= size <= SPACING_MM[1] for size in found):
        raise ValueError(f"PixelSpacing is {values}, expected sizes from {SPACING_MM[0]} to {SPACING_MM[1]} mm")
    return found
