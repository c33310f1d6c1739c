"""Writes a label map as DICOM SEG with highdicom: one segment for every class that has a voxel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.errors import UserError
from scripts.core.extras import require
from scripts.core.files import atomic_write
from scripts.core.palette import colour
from scripts.dicom.about import LABEL, RESEARCH_ONLY, About, digest, shown_name
from scripts.dicom.identity import headers_of, places_of, set_moment, without_warnings
from scripts.series.stack import Stack

SERIES_NUMBER = 9101
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"


@without_warnings()
def write_segmentation(
    frames: np.ndarray,
    stack: Stack,
    class_names: Sequence[str],
    file: str | Path,
    about: About,
    labelmap: bool = False,
) -> list[str]:
    """Writes a SEG object.

    Args:
        frames: labels, indexed [slice, row, column] in the order of the stack.
        stack: the series.
        class_names: names of the values 0, 1, ..., background first.
        file: to write.
        about: the origin of the labels.
        labelmap: writes one map of all classes (LABELMAP, compressed by RLE) in place of one mask for each (BINARY).
            It is smaller, but many programs do not know this newer form.

    Returns:
        The names of the classes that have a voxel. If there is none, no file is written.

    Raises:
        UserError: a package is missing, or the series lacks its UIDs.
    """
    hd = require("highdicom", "dicom", str(file))
    present = [int(value) for value in np.unique(frames) if value]
    if not present:
        return []
    headers = headers_of(stack, about)
    if len(headers) > 1 and "NumberOfFrames" in headers[0]:
        raise UserError(
            f"{stack.name}: found its slices in {len(headers)} files of several frames, expected one for a SEG; choose "
            "rtstruct"
        )
    numbers = np.zeros(256, np.uint8)  # of the segments, by class
    numbers[present] = np.arange(1, len(present) + 1)
    kind = "LABELMAP" if labelmap else "BINARY"
    names = list(class_names)
    codes = [repr(about.segment(names[value])) for value in present]
    parts = [kind, headers[0].SeriesInstanceUID, *names, *codes, digest(frames), *places_of(stack)]
    made = hd.seg.Segmentation(
        headers,
        numbers[frames],
        kind,
        [describe(number, names[value], value, about) for number, value in enumerate(present, 1)],
        series_instance_uid=about.uid("series", *parts),
        series_number=SERIES_NUMBER,
        sop_instance_uid=about.uid("instance", *parts),
        instance_number=1,
        manufacturer=about.model,
        manufacturer_model_name=about.model,
        software_versions=about.version,
        device_serial_number=about.weights[:16] or "none",
        content_label=LABEL,
        content_description=f"Segmentation, {RESEARCH_ONLY}",
        series_description=f"Segmentation, {RESEARCH_ONLY}",
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        specific_character_set="ISO_IR 192",
    )
    finish(made, headers[0], stack, about.uid("dimensions", *parts))
    if labelmap:  # by pydicom itself: gdcm ends the whole process where a frame has an odd number of pixels
        made.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
    with atomic_write(Path(file)) as partial:
        made.save_as(partial)
    return [names[value] for value in present]


def describe(number: int, name: str, value: int, about: About) -> Any:
    """The description of a segment."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    segment = about.segment(name)
    how = None
    if about.made_by != "MANUAL":
        how = hd.AlgorithmIdentificationSequence(about.model, codes.DCM.ArtificialIntelligence, about.version)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=shown_name(name),
        segmented_property_category=hd.sr.CodedConcept(*segment.category),
        segmented_property_type=hd.sr.CodedConcept(*segment.code),
        algorithm_type=about.made_by,
        algorithm_identification=how,
        display_color=hd.color.CIELabColor.from_string(colour(value)),
    )


def finish(made: Any, source: Any, stack: Stack, dimensions: str) -> None:
    """Adds what highdicom leaves out, names frames by their original number, and takes the clock and chance away."""
    set_moment(made, source)
    for item in made.get("ContributingEquipmentSequence", []):
        item.pop("ContributionDateTime", None)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    for name in ("PatientIdentityRemoved", "DeidentificationMethod"):
        if name in source and name not in made:
            setattr(made, name, source[name].value)
    if "NumberOfFrames" in source:
        derived = (group.DerivationImageSequence[0] for group in made.PerFrameFunctionalGroupsSequence)
        images = [item.SourceImageSequence[0] for item in derived]
        for image in {id(image): image for image in images}.values():  # the segments of a slice share theirs
            image.ReferencedFrameNumber = stack.frames[image.ReferencedFrameNumber - 1][1]
