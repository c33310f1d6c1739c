"""Writes a volume as an MR series, one file for each slice: phantoms, and whatever has no DICOM of its own."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from scripts.core.extras import require
from scripts.core.files import atomic_write
from scripts.series.headers import MR
from scripts.series.stack import TO_RAS

LARGEST_VALUE = 2**16 - 1


def write_series(
    volume: np.ndarray, affine: np.ndarray, folder: str | Path, number: int = 1, **facts: Any
) -> list[Path]:
    """Writes a volume as a series. The same arguments give the same bytes.

    Args:
        volume: whole numbers from 0 to 65535, slices along the last axis.
        affine: from its indices to NIfTI's millimetres.
        folder: of the files; it is created if needed.
        number: of the series.
        facts: other headers by keyword, such as `PatientID`. UIDs that are not given are made from the others.

    Returns:
        The files, in the order of the slices.
    """
    pydicom = require("pydicom", "dicom", f"{folder}: writing DICOM files")
    from pydicom.dataset import Dataset, FileMetaDataset

    if volume.min() < 0 or volume.max() > LARGEST_VALUE or not np.array_equal(volume, np.rint(volume)):
        raise ValueError(f"expected whole numbers from 0 to {LARGEST_VALUE}")
    matrix = TO_RAS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    directions = matrix[:3, :3] / spacing
    name = f"{sorted(facts.items())} {number}"
    given = {
        "Modality": "MR",
        "Manufacturer": "",
        "PatientName": "",
        "PatientID": "",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyID": "",
        "StudyDate": "",
        "StudyTime": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "RepetitionTime": "",
        "EchoTime": "",
        "EchoTrainLength": "",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "StudyInstanceUID": uid_of(f"{facts.get('PatientID')} {facts.get('StudyDate')}"),
        "SeriesInstanceUID": uid_of(name),
        "FrameOfReferenceUID": uid_of(f"frame {facts.get('PatientID')} {facts.get('StudyDate')}"),
        "SeriesNumber": number,
        **facts,
    }
    files = []
    for index in range(volume.shape[2]):
        item = Dataset()
        for word, value in given.items():
            setattr(item, word, value)
        item.SOPClassUID, item.SOPInstanceUID = MR, uid_of(f"{given['SeriesInstanceUID']} {index}")
        item.InstanceNumber = index + 1
        item.ImagePositionPatient = decimals(matrix[:3, 3] + index * matrix[:3, 2])
        item.ImageOrientationPatient = decimals([*directions[:, 0], *directions[:, 1]])
        item.PixelSpacing = decimals([spacing[1], spacing[0]])
        (item.SliceThickness,) = decimals([spacing[2]])
        item.Columns, item.Rows = volume.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 0
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
        item.PixelData = volume[:, :, index].T.astype("<u2").tobytes()
        item["PixelData"].VR = "OW"
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        file = Path(folder) / f"{index + 1:04}.dcm"
        with atomic_write(file) as partial:
            item.save_as(partial, enforce_file_format=True)
        files.append(file)
    return files


def uid_of(text: str, root: str = "2.25") -> str:
    """A UID that is made from a text: the same for the same text.

    Args:
        text: anything.
        root: that the UID begins with; 2.25 is that of UIDs made from UUIDs, which nobody has to register.
    """
    digits = str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
    return f"{root}.{digits}"[:64].rstrip(".")


def decimals(values) -> list:
    """Numbers as DICOM's decimal strings, of at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]
