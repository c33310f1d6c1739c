"""Headers of a series as the writers need them: with what they say of the patient, or with codes in its place."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scripts.core.errors import UserError
from scripts.data.anonymise import patient_code
from scripts.dicom.about import NO_ROOT, About
from scripts.series.stack import Stack
from scripts.series.writer import uid_of

NO_DATE, NO_TIME = "19000101", "000000"  # where a date must be given and none may be
# What DICOM asks for in every object, though it may be empty.
ASKED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName",
)  # fmt: skip
# All that a header without names keeps: what an image is, and where it lies.
KEPT = (
    "SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient",
    "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "PatientSex",
)  # fmt: skip
KEPT_GROUPS = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence")
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keeps the libraries from printing names of patients that they find odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def headers_of(stack: Stack, about: About) -> list[Any]:
    """Copies of the headers of a series that a writer may use: complete, in UTF-8, and without names if so asked.

    Without names the patient's name and number become a code; dates, accession number and everything else that may tell
    who it was are gone; every UID becomes another one that the same secret word gives again, so that all files of a
    study still belong together.

    Raises:
        UserError: the series has no UIDs.
    """
    first = stack.headers[0]
    for name in UIDS[:3]:
        if not all(header.get(name) for header in stack.headers):
            raise UserError(f"{stack.name}: found no {name}, expected it in every file; export the series again")
    if about.word is not None:
        return [without_names(header, about) for header in stack.headers]
    made = [whole(first), *(geometry_of(header) for header in stack.headers[1:])]
    frame_of_reference = first.get("FrameOfReferenceUID") or about.uid("frame of reference", first.SeriesInstanceUID)
    for header, original in zip(made, stack.headers):
        for name in UIDS:
            setattr(header, name, original.get(name) or frame_of_reference)
    return made


def whole(header: Any) -> Any:
    """A copy of a header without private elements, its text in UTF-8."""
    from pydicom.dataset import Dataset
    from pydicom.valuerep import PersonName

    def encode_anew(_: Any, element: Any) -> None:
        if element.VR == "PN" and element.VM == 1 and element.value:
            element.value = PersonName(str(element.value))
        if element.VR in ("DA", "TM") and not is_moment(element):
            element.value = ""

    made = Dataset()
    for element in header:
        if not element.tag.is_private:
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
        setattr(made, name, coded_uid(original, word, about.uid_root))
    for name in ASKED:
        if name not in made:
            setattr(made, name, "")
    made.PatientName = made.PatientID = patient_code(
        str(header.get("PatientID") or header.get("PatientName", "")), word
    )
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "Names, numbers, dates and UIDs replaced or removed"
    if "SharedFunctionalGroupsSequence" in header:
        made.SharedFunctionalGroupsSequence = [kept_groups(item) for item in header.SharedFunctionalGroupsSequence]
        made.PerFrameFunctionalGroupsSequence = [kept_groups(item) for item in header.PerFrameFunctionalGroupsSequence]
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


def kept_groups(item: Any) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    for name in KEPT_GROUPS:
        if name in item:
            inner = Dataset()
            for element in item[name].value[0]:
                if element.keyword in KEPT:
                    inner.add(copy.deepcopy(element))
            setattr(made, name, [inner])
    return made


def coded_uid(uid: str, word: str, root: str = NO_ROOT) -> str:
    """The UID that replaces one of a series where names are codes."""
    return uid_of(f"coded\n{word}\n{uid}", root)


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
