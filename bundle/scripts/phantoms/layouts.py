"""The folders, file names and file formats of phantoms: one entry per layout, one function per format.

The contents of a file depend only on the arrays. `generate.py` uses this module.
"""

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import nibabel as nib
import numpy as np
from PIL import Image


def volume_bytes(array, voxel):
    """Returns a .nii.gz file of an array indexed [L, P, S]. It contains no time and no name: equal arrays give equal
    bytes."""
    affine = volume_affine(array.shape, voxel)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    return nifti_bytes(image)


def volume_affine(shape, voxel):
    """Returns the affine of an array indexed [L, P, S], with the middle of the field at 0."""
    # NIfTI coordinates grow to the right and to the front, the array's indices to the left and to the back.
    affine = np.diag([-voxel[0], -voxel[1], voxel[2], 1])
    affine[:3, 3] = voxel * (1 - np.array(shape)) / 2 * (-1, -1, 1)
    return affine


def slice_bytes(array, voxel):
    """Returns a .nii.gz file of a sagittal slice [P, S]; as in HipMRI's, the affine is the identity."""
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_zooms(voxel[1:])
    return nifti_bytes(image)


def nifti_bytes(image):
    """Returns the compressed bytes of a NIfTI image."""
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic phantom, not a patient"
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def png_bytes(array, voxel=None):
    """Returns a PNG file of 8 bit grey values."""
    return _picture_bytes(array, "PNG")


def tiff_bytes(array, voxel=None):
    """Returns an uncompressed TIFF file of 8 bit grey values or colours."""
    return _picture_bytes(array, "TIFF")


def _picture_bytes(array, kind):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


@dataclass(frozen=True)
class Layout:
    """The folders and files of one layout.

    Args:
        anatomy: pelvis, heart or brain.
        image, label: paths below the output folder. In braces: patient, week, side (one of `sides`), scan (counted
            over all patients, from 1), slice (within the scan, from 0) and number (the same, from 1).
        encode: function from an array and the voxel size in mm to the contents of a file.
        size: default number of pixels along each axis.
        scans: default number of scans per patient.
        sides: folders for the patients of training, validation and test; empty if patients are not divided.
        unlabelled: the side whose labels are not written.
        slices: default number of files per scan; None for all slices, 0 for a scan in one file.
        dicom: whether the path of an image is a folder, and the image a DICOM series in it.
    """

    anatomy: str
    image: str
    label: str
    encode: Callable = volume_bytes
    size: tuple = (64, 64, 32)
    scans: int = 2
    sides: tuple = ()
    unlabelled: str = ""
    slices: int | None = 0
    dicom: bool = False

    @property
    def description(self):
        return f"synthetic {KINDS[self.anatomy]} phantoms, not patients"

    def side(self, index, patients):
        """Returns the side of the patient with this index. The ratio is about 6:2:2, with at least one on each side."""
        if not self.sides:
            return ""
        held_out = max(1, round(0.2 * patients))
        place = (index >= patients - 2 * held_out) + (index >= patients - held_out)
        return self.sides[place]


FIRST_DAY = date(2026, 1, 5)  # of the scans of a patient, in the headers of DICOM files
KINDS = {"pelvis": "male-pelvis", "heart": "short-axis heart", "brain": "brain tumour"}
LAYOUTS = {
    "hipmri": Layout(
        "pelvis",
        "semantic_MRs_anon/Case_{patient:03d}_Week{week}_LFOV.nii.gz",
        "semantic_labels_anon/Case_{patient:03d}_Week{week}_SEMANTIC_LFOV.nii.gz",
    ),
    "hipmri_short": Layout(
        "pelvis",
        "semantic_MRs/C{patient:03d}_Week{week}_LFOV.nii.gz",
        "semantic_labels_only/C{patient:03d}_Week{week}_SEMANTIC.nii.gz",
    ),
    "decathlon": Layout(
        "pelvis", "imagesTr/Case_{patient:03d}_Week{week}.nii.gz", "labelsTr/Case_{patient:03d}_Week{week}.nii.gz"
    ),
    "dicom": Layout(
        "pelvis",
        "imagesTr/Case_{patient:03d}_Week{week}",
        "labelsTr/Case_{patient:03d}_Week{week}.nii.gz",
        dicom=True,
    ),
    "keras_slices": Layout(
        "pelvis",
        "keras_slices_{side}/case_{patient:03d}_week_{week}_slice_{slice}.nii.gz",
        "keras_slices_seg_{side}/seg_{patient:03d}_week_{week}_slice_{slice}.nii.gz",
        encode=slice_bytes,
        sides=("train", "validate", "test"),
        slices=None,
    ),
    "cardiac_png": Layout(
        "heart",
        "{side}/image/cmr{scan}.png",
        "{side}/mask/cmr{scan}_mask.png",
        encode=png_bytes,
        size=(96, 96),
        sides=("train", "val", "test"),
        unlabelled="test",
    ),
    "lgg_tiff": Layout(
        "brain",
        "kaggle_3m/TCGA_PH_{patient:04d}_20000101/TCGA_PH_{patient:04d}_20000101_{number}.tif",
        "kaggle_3m/TCGA_PH_{patient:04d}_20000101/TCGA_PH_{patient:04d}_20000101_{number}_mask.tif",
        encode=tiff_bytes,
        size=(256, 256),
        scans=1,
        slices=24,
    ),
}


def dicom_headers(patient, week):
    """Returns what the headers of a series say of a patient and of a weekly scan."""
    return {
        "PatientID": f"PHANTOM{patient:03d}",
        "PatientName": f"Phantom^{patient:03d}",
        "PatientSex": "M",
        "StudyID": str(week),
        "StudyDate": (FIRST_DAY + timedelta(weeks=week)).strftime("%Y%m%d"),
        "StudyTime": "120000",
        "Manufacturer": "synthetic",
        "BodyPartExamined": "PELVIS",
        "SeriesDescription": "T2 phantom, no patient",
    }


def decathlon_listing(root, pairs, classes):
    """Returns the contents of a Medical Segmentation Decathlon `dataset.json`."""
    training = [
        {kind: f"./{path.relative_to(root).as_posix()}" for kind, path in zip(("image", "label"), pair, strict=True)}
        for pair in pairs
    ]
    return {
        "name": "male pelvis phantoms",
        "description": LAYOUTS["decathlon"].description,
        "licence": "made by a program, no rights reserved",
        "labels": {str(index): name for index, name in enumerate(classes)},
        "numTraining": len(training),
        "training": training,
        "numTest": 0,
        "test": [],
    }
