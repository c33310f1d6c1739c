"""Headers of a series as the writers need them: with what they say of the patient, or with codes in its place."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scripts.core.errors import UserError
from scripts.data.anonymise import patient_code
from scripts.dicom.about import About
from scripts.series.headers import MULTI_FRAME
from scripts.series.stack import Stack
from scripts.series.writer import decimals, uid_of

NO_DATE, NO_TIME = "19000101", "000000"  # where a date must be given and none may be
# What DICOM asks for in every object, though it may be empty.
ASKED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName",
)  # fmt: skip
# All that a header without names keeps: what an image is, and where it lies.
KEPT = (
    "SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient",
    "PixelSpacing", "PatientSex",
)  # fmt: skip
SEXES = ("M", "F", "O", "", None)
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keeps the libraries from printing names of patients that they find odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def headers_of(stack: Stack, about: About) -> list[Any]:
    """Copies of the headers of a series that a writer may use: complete, in UTF-8, and without names if so asked.

    They are in the order of the slices. One of several frames has those of the stack alone, in the same order. The
    distance of the slices is that of their places: readers of a SEG believe it, and some scanners write the gap there.

    Without names the patient's name and number become a code; dates, accession number and everything else that may tell
    who it was are gone; every UID becomes another one that the same secret word gives again, so that all files of a
    study still belong together.

    Raises:
        UserError: the series has no UIDs.
    """
    numbers: dict[int, list[int]] = {}
    for index, number in stack.frames:
        numbers.setdefault(index, []).append(number)
    originals = [stack.headers[index] for index in numbers]
    for name in UIDS[:3]:
        if not all(header.get(name) for header in originals):
            raise UserError(f"{stack.name}: found no {name}, expected it in every file; export the series again")
    if about.word is not None:
        made = [without_names(header, about) for header in originals]
    else:
        made = [whole(originals[0]), *(geometry_of(header) for header in originals[1:])]
        for header in made:
            if not header.get("FrameOfReferenceUID"):
                header.FrameOfReferenceUID = about.uid("frame of reference", header.SeriesInstanceUID)
    step = decimals([np.linalg.norm(stack.affine[:3, 2])])[0]
    for header, original, those in zip(made, originals, numbers.values()):
        header.SliceThickness, header.SpacingBetweenSlices = thickness_of(original), step
        if header.get("PatientSex") not in SEXES:
            header.PatientSex = ""
        if original.get("SOPClassUID") in MULTI_FRAME:
            keep_frames(header, original, those, step)
        else:  # a stack may differ by noise in the last digit, which highdicom refuses
            header.ImageOrientationPatient = made[0].ImageOrientationPatient
            header.pop("NumberOfFrames", None)  # some programs write 1, and only a file of several frames has groups
    return made


def images_of(headers: list[Any], stack: Stack) -> list[tuple[Any, int]]:
    """For every slice the header and the number of the frame in the original file."""
    places = {index: place for place, index in enumerate(dict.fromkeys(index for index, _ in stack.frames))}
    return [(headers[places[index]], number) for index, number in stack.frames]


def places_of(stack: Stack) -> list[str]:
    """What tells one stack of a series from another, as of another echo: the image and the frame of every slice."""
    return [f"{stack.headers[index].get('SOPInstanceUID', '')} {number}" for index, number in stack.frames]


def whole(header: Any) -> Any:
    """A copy of a header without private elements, its text in UTF-8."""
    from pydicom.dataset import Dataset
    from pydicom.valuerep import PersonName

    def encode_anew(_: Any, element: Any) -> None:
        if element.VR == "PN" and element.VM == 1 and element.value:
            element.value = PersonName(str(element.value))
        if element.keyword == "PatientName" and element.VM > 1:  # typed with a backslash
            element.value = PersonName("/".join(map(str, element.value)))
        if element.VR in ("DA", "TM") and not is_moment(element):
            element.value = ""

    made = Dataset()
    for element in header:
        if not element.tag.is_private and element.keyword not in GROUPS:
            made.add(copy.deepcopy(element))
    made.decode()
    made.walk(encode_anew)
    made.SpecificCharacterSet = "ISO_IR 192"
    for name in ASKED:
        if name not in made:
            setattr(made, name, "")
    return made


def is_moment(element: Any) -> bool:
    """Returns whether a date or a time is one, not the thirtieth of February."""
    from pydicom import valuerep

    try:
        getattr(valuerep, element.VR)(str(element.value))
    except ValueError:
        return False
    return True


def thickness_of(header: Any) -> Any:
    """The thickness of a slice; None where the header has no such number."""
    try:
        return header.SliceThickness if 0 < float(header.SliceThickness) < np.inf else None
    except (AttributeError, TypeError, ValueError):
        return None


def geometry_of(header: Any) -> Any:
    """A copy of what a header says of the image and of where it lies."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for name in (*KEPT, *UIDS):
        if name in header:
            setattr(made, name, copy.deepcopy(header[name].value))
    return made


def without_names(header: Any, about: About) -> Any:
    """A new header that only says what the image is and where it lies, with codes for the patient and all UIDs."""
    made = geometry_of(header)
    word = str(about.word)
    for name in UIDS:
        original = str(header.get(name) or f"{name} of {header.SeriesInstanceUID}")
        setattr(made, name, coded_uid(original, about))
    for name in ASKED:
        if name not in made:
            setattr(made, name, "")
    made.PatientID = patient_code(patient_of(header), word)
    made.PatientName = f"{made.PatientID}^"  # a family name alone
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "Names, numbers, dates and UIDs replaced or removed"
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


def patient_of(header: Any) -> str:
    """The number of a patient, or the name where there is none."""
    return str(header.get("PatientID") or header.get("PatientName") or "")


def keep_frames(header: Any, original: Any, numbers: list[int], step: Any) -> None:
    """Gives a header some of the frames of the original one, with their places alone.

    Args:
        header: to be changed.
        original: the header that it was made from.
        numbers: of the frames, from 1.
        step: distance of the slices.
    """
    from pydicom.dataset import Dataset

    common = next(iter(original.get(GROUPS[0]) or []), Dataset())
    groups = [original[GROUPS[1]].value[number - 1] for number in numbers]

    def copied(group: Any, *sequences: str) -> Any:
        made = Dataset()
        for sequence in sequences:
            item = (group.get(sequence) or common.get(sequence))[0]
            setattr(made, sequence, [Dataset()])
            for word in KEPT:
                if word in item:
                    setattr(made[sequence].value[0], word, item[word].value)
        return made

    header.NumberOfFrames = len(numbers)
    header.SharedFunctionalGroupsSequence = [copied(groups[0], "PixelMeasuresSequence", "PlaneOrientationSequence")]
    header.PerFrameFunctionalGroupsSequence = [copied(group, "PlanePositionSequence") for group in groups]
    measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    thickness = thickness_of((groups[0].get("PixelMeasuresSequence") or common.get("PixelMeasuresSequence"))[0])
    if thickness is not None:
        measures.SliceThickness = thickness
    measures.SpacingBetweenSlices = step


def coded_uid(uid: str, about: About) -> str:
    """The UID that replaces one of a series where names are codes."""
    return uid_of(f"coded\n{about.word}\n{uid}", about.uid_root)


def content_moment(header: Any) -> tuple[str, str]:
    """Date and time that the new object carries: those of the images. The clock of the machine would give the same UID
    two contents."""
    for kind in ("Content", "Acquisition", "Series", "Study"):
        if header.get(f"{kind}Date"):
            return str(header[f"{kind}Date"].value), str(header.get(f"{kind}Time") or NO_TIME)
    return NO_DATE, NO_TIME


def set_moment(made: Any, source: Any) -> None:
    """Replaces the times that a writer took from the clock."""
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        made.pop(name, None)
    if "ContentDate" in made:
        made.ContentDate, made.ContentTime = content_moment(source)
