"""Writes a label map as DICOM RTSTRUCT: closed contours on the slices of the series, along the edges of the voxels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_fill_holes

from scripts.core.extras import require
from scripts.core.files import atomic_write
from scripts.core.palette import colour
from scripts.dicom.about import LABEL, LONGEST_NAME, RESEARCH_ONLY, About, digest, shown_name
from scripts.dicom.contours import outlines
from scripts.dicom.identity import (
    ASKED,
    content_moment,
    headers_of,
    images_of,
    places_of,
    set_moment,
    without_warnings,
)
from scripts.series.stack import Stack

SERIES_NUMBER = 9102
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"  # the explicit syntax ends a contour's text at 64 kB
CONTOUR_DATA = 0x30060050


@without_warnings()
def write_structures(
    frames: np.ndarray,
    stack: Stack,
    class_names: Sequence[str],
    file: str | Path,
    about: About,
) -> list[str]:
    """Writes an RTSTRUCT object.

    The class whose type is EXTERNAL is the outer contour of all classes together: the outline of the patient. The
    others are outlines of their voxels with their holes.

    Args:
        frames: labels, indexed [slice, row, column] in the order of the stack.
        stack: the series.
        class_names: names of the values 0, 1, ..., background first.
        file: to write.
        about: the origin of the labels.

    Returns:
        The names of the classes that have a voxel. If there is none, no file is written.

    Raises:
        UserError: a package is missing, or the series lacks its UIDs.
    """
    for package in ("pydicom", "highdicom", "contourpy"):
        require(package, "dicom", str(file))
    names = list(class_names)
    outer = about.outer_class(names)
    present = {int(value) for value in np.unique(frames) if value}
    if present and outer:
        present.add(outer)
    values = sorted(present)
    if not values:
        return []
    headers = headers_of(stack, about)
    codes = [repr(about.segment(names[value])) for value in values]
    parts = ["RTSTRUCT", headers[0].SeriesInstanceUID, *names, *codes, digest(frames), *places_of(stack)]
    made = new_object(headers[0], about, parts)
    references = [reference(header, number) for header, number in images_of(headers, stack)]
    made.ReferencedFrameOfReferenceSequence = [frame_of_reference(headers, references)]
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    for number, value in enumerate(values, 1):
        name = shown_name(names[value])
        mask = whole_patient(frames) if value == outer else frames == value
        made.StructureSetROISequence.append(region(number, name, headers[0], about))
        made.ROIContourSequence.append(contours(number, value, mask, stack, references))
        made.RTROIObservationsSequence.append(observation(number, names[value], about))
    with atomic_write(Path(file)) as partial:
        made.save_as(partial, enforce_file_format=True)
    return [names[value] for value in values]


def whole_patient(frames: np.ndarray) -> np.ndarray:
    """All classes together, with everything that they enclose on a slice."""
    return np.stack([binary_fill_holes(frame) for frame in frames > 0])


def new_object(source: Any, about: About, parts: list[str]) -> Any:
    """An RTSTRUCT of the patient and study of the source, still without structures."""
    import highdicom as hd

    made = hd.SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=about.uid("series", *parts),
        series_number=SERIES_NUMBER,
        sop_instance_uid=about.uid("instance", *parts),
        sop_class_uid=RTSTRUCT,
        instance_number=1,
        modality="RTSTRUCT",
        manufacturer=about.model,
        manufacturer_model_name=about.model,
        software_versions=about.version,
        device_serial_number=about.weights[:16] or "none",
        series_description=f"Contours, {RESEARCH_ONLY}",
        transfer_syntax_uid=IMPLICIT_LITTLE_ENDIAN,
        specific_character_set="ISO_IR 192",
    )
    made.copy_patient_and_study_information(source)
    for name in ASKED:
        setattr(made, name, source[name].value)
    made.OperatorsName = ""
    made.FrameOfReferenceUID = source.FrameOfReferenceUID
    made.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    made.StructureSetLabel = LABEL
    made.StructureSetName = f"Contours, {RESEARCH_ONLY}"
    made.StructureSetDescription = f"{about.model} {about.version}, {RESEARCH_ONLY}"
    made.StructureSetDate, made.StructureSetTime = content_moment(source)
    made.ApprovalStatus = "UNAPPROVED"
    set_moment(made, source)
    return made


def reference(header: Any, frame: int) -> Any:
    """A reference to the image of a slice."""
    from pydicom.dataset import Dataset

    made = Dataset()
    made.ReferencedSOPClassUID = header.SOPClassUID
    made.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if "NumberOfFrames" in header:
        made.ReferencedFrameNumber = frame
    return made


def frame_of_reference(headers: list[Any], references: list[Any]) -> Any:
    """The coordinate system of the contours, and the study, series and images that have it."""
    from pydicom.dataset import Dataset

    series, study, made = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ContourImageSequence = [reference(header, 1) for header in headers]
    for item in series.ContourImageSequence:
        item.pop("ReferencedFrameNumber", None)  # all frames
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    made.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
    made.RTReferencedStudySequence = [study]
    return made


def region(number: int, name: str, source: Any, about: About) -> Any:
    """The name of a structure and how it was made."""
    from pydicom.dataset import Dataset

    made = Dataset()
    made.ROINumber = number
    made.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
    made.ROIName = name
    made.ROIDescription = RESEARCH_ONLY
    made.ROIGenerationAlgorithm = about.made_by
    made.ROIGenerationDescription = f"{about.model} {about.version}"[:LONGEST_NAME]
    return made


def contours(number: int, value: int, mask: np.ndarray, stack: Stack, references: list[Any]) -> Any:
    """The contours of a structure on all slices."""
    from pydicom.dataset import Dataset

    made = Dataset()
    made.ROIDisplayColor = [int(colour(value)[i : i + 2], 16) for i in (1, 3, 5)]
    made.ReferencedROINumber = number
    made.ContourSequence = []
    for place in np.flatnonzero(mask.any(axis=(1, 2))):
        for points in outlines(mask[place]):
            contour = one_contour(points, int(place), stack.affine, references[place])
            contour.ContourNumber = len(made.ContourSequence) + 1
            made.ContourSequence.append(contour)
    return made


def one_contour(points: np.ndarray, place: int, affine: np.ndarray, image: Any) -> Any:
    """A closed contour in the patient's coordinates."""
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    places = points @ affine[:3, :2].T + (affine[:3, 2] * place + affine[:3, 3])
    places = places.round(4) + 0.0  # no -0.0000
    text = "\\".join(["%.4f"] * places.size) % tuple(places.ravel())
    content = (text + " " * (len(text) % 2)).encode("ascii")
    made = Dataset()
    made.ContourImageSequence = [image]
    made.ContourGeometricType = "CLOSED_PLANAR"
    made.NumberOfContourPoints = len(points)
    tag = Tag(CONTOUR_DATA)  # as it will lie in the file: a value at a time would take ten times as long
    made[tag] = RawDataElement(tag, "DS", len(content), content, 0, True, True)
    return made


def observation(number: int, name: str, about: About) -> Any:
    """What a structure is."""
    from pydicom.dataset import Dataset

    segment = about.segment(name)
    code, made = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = segment.code
    made.ObservationNumber = number
    made.ReferencedROINumber = number
    made.ROIObservationLabel = shown_name(name)[:16]
    made.RTROIIdentificationCodeSequence = [code]
    made.RTROIInterpretedType = segment.roi_type
    made.ROIInterpreter = ""
    return made
