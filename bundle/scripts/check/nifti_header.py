"""Validates the header of a NIfTI file: every value must be within fixed limits before memory is reserved for it.

`nifti.py` uses it. A fault is raised as a ValueError; `nifti.py` puts the name of the file in front of its text.
"""

import io
import logging
import zlib
from typing import NoReturn

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from scripts.series.stack import GRID_TOLERANCE_MM, furthest_corner_mm

AXIS = (8, 2048)  # voxels along one axis, fewest and most
LARGEST_VOXELS = 512 * 2**20
LARGEST_BYTES = 2 * 2**30  # of the uncompressed voxels
LARGEST_OFFSET = 4 * 2**20  # bytes in front of the voxels: header and extensions
SPACING_MM = (0.05, 20.0)
FURTHEST_MM = 1e6  # largest number in an affine
FLATTEST = 1e-3  # smallest ratio of a voxel's volume to that of a box with the same edges; 0 is singular
START = 2**16  # bytes at the start of the file that must contain the header, compressed or not
UNPACKED = 1024  # uncompressed bytes that are enough for a header
NUMBERS = [np.dtype(kind) for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")]
OTHERS = {  # other files that are sometimes found under the name of a NIfTI file
    b"\x1f\x8b": "a compressed file; rename it to end in .nii.gz",
    b"PK": "a zip archive; unpack it",
    b"NRRD": "an NRRD file; convert it",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with git lfs pull",
    b"<": "a web page or XML; download the file again",
}
quiet = logging.Logger("nibabel's repairs of a header", logging.CRITICAL + 1)


def read_header(start: bytes, compressed: bool) -> nib.Nifti1Header:
    """Reads the header from the start of a file. Not more than `UNPACKED` bytes are uncompressed for it."""
    if compressed:
        if not start.startswith(b"\x1f\x8b"):
            plain = sizeof_header(start) is not None
            refuse(
                "found a file that is not compressed, expected gzip as the name says; "
                + ("rename it to end in .nii" if plain else "write it again as NIfTI")
            )
        start = zlib.decompressobj(31).decompress(start, UNPACKED)
    kind = sizeof_header(start)
    if kind is None:
        known = [text for magic, text in OTHERS.items() if start.startswith(magic)]
        if start[128:132] == b"DICM":
            known = ["a DICOM file; name the folder of its series"]
        refuse(f"found {(known or ['no NIfTI header; write it again as NIfTI'])[0]}")
    if len(start) < kind.template_dtype.itemsize:
        refuse(f"found {len(start)} bytes, less than a NIfTI header; copy or write it again")
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
        magic = bytes(header["magic"])
        refuse(
            "found the header of a pair .hdr and .img, expected one file; convert it to .nii.gz"
            if magic[:3] in (b"ni1", b"ni2")
            else f"found {magic[:4]!r} as its format, expected b'n+1' for NIfTI; write it again as NIfTI"
        )
    return header


def sizeof_header(start: bytes) -> type[nib.Nifti1Header] | None:
    """Returns the class for NIfTI-1 or NIfTI-2, by the first number in either byte order, or None."""
    numbers = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    return nib.Nifti1Header if 348 in numbers else nib.Nifti2Header if 540 in numbers else None


def check_header(header: nib.Nifti1Header) -> dict:
    """Checks that shape, type, scaling, affine and spacing are within the limits, and returns them as facts."""
    count, *dims = (int(n) for n in header["dim"])
    if not (count == 3 or (count == 4 and dims[3] == 1)):
        refuse(f"found {count} axes, {dims[: max(0, count)]}, expected one volume of 3; extract it first")
    shape = dims[:3]
    if not all(AXIS[0] <= n <= AXIS[1] for n in shape):
        few = min(shape) < AXIS[0]
        hint = "resample it, or see docs/how-to/slices.md for slices" if few else "crop or resample it"
        refuse(f"found shape {tuple(shape)}, expected {AXIS[0]} to {AXIS[1]} voxels along each axis; {hint}")
    try:
        dtype = header.get_data_dtype()
    except Exception:
        refuse(f"found data type {int(header['datatype'])}, unknown to NIfTI; write it again as float32 or int16")
    if dtype.newbyteorder("=") not in NUMBERS:
        refuse(f"found data type {dtype}, expected one real number per voxel; write it as float32 or int16")
    size = voxel_count(shape) * dtype.itemsize
    if voxel_count(shape) > LARGEST_VOXELS or size > LARGEST_BYTES:
        refuse(
            f"found shape {tuple(shape)} of {dtype}, expected {LARGEST_VOXELS} voxels and {LARGEST_BYTES} bytes "
            "at most; crop or resample it"
        )
    offset = float(header["vox_offset"])
    if not header.template_dtype.itemsize + 4 <= offset <= LARGEST_OFFSET:  # NaN compares as False
        first = header.template_dtype.itemsize + 4
        refuse(f"found voxels at byte {offset:g}, expected {first} to {LARGEST_OFFSET}; write it again")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isinf(slope) or (np.isfinite(slope) and slope != 0 and not np.isfinite(inter)):
        refuse(f"found scaling by {slope:g} and {inter:g}, expected finite numbers; write it again")
    pixdim = [float(size) for size in header["pixdim"][1:4]]
    if not all(SPACING_MM[0] <= size <= SPACING_MM[1] for size in pixdim):
        refuse(
            f"found a spacing of {sizes_text(pixdim)} mm, expected {SPACING_MM[0]} to {SPACING_MM[1]}; fix the header"
        )
    return {"shape": shape, "dtype": str(dtype.newbyteorder("="))} | check_affine(header, shape, pixdim)


def check_affine(header: nib.Nifti1Header, shape: list[int], pixdim: list[float]) -> dict:
    """Checks the affine and returns the facts that follow from it, with warnings if the header contradicts itself."""
    try:
        header.check_fix(logger=quiet)  # what nibabel refuses or repairs when it opens the file
        affine = header.get_best_affine()
        other = header.get_qform() if int(header["qform_code"]) and int(header["sform_code"]) else affine
    except Exception as error:  # nibabel raises many kinds
        raise ValueError(f"found a broken header ({first_line(error)}); write it again") from error
    if not np.isfinite(affine).all() or np.abs(affine).max() > FURTHEST_MM:
        refuse(f"found an affine with numbers that are not finite or beyond {FURTHEST_MM:g}; fix sform and qform")
    spacing = voxel_sizes(affine)
    box = float(np.prod(spacing))
    if box == 0 or abs(np.linalg.det(affine[:3, :3])) < FLATTEST * box:
        refuse("found an affine that is singular: all voxels are in one plane; fix sform and qform in the header")
    if not all(SPACING_MM[0] <= size <= SPACING_MM[1] for size in spacing):
        refuse(
            f"found an affine with a spacing of {sizes_text(spacing)} mm, expected {SPACING_MM[0]} to {SPACING_MM[1]}; "
            "fix sform and qform in the header"
        )
    if not np.allclose(pixdim, spacing):
        away = furthest_corner_mm(shape, affine, header.get_qform())  # which MONAI uses then, even if it was never set
        if not away <= GRID_TOLERANCE_MM:
            refuse(
                f"found pixdim {sizes_text(pixdim)} mm but an sform with {sizes_text(spacing)} mm; MONAI would use the "
                f"qform and put a corner {away:.1f} mm away; fix the header: the three must agree"
            )
    warnings = []
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        warnings.append("neither sform nor qform is set: left and right are a guess")
    elif not np.isfinite(other).all() or furthest_corner_mm(shape, affine, other) > GRID_TOLERANCE_MM:
        warnings.append("sform and qform give different positions; sform is used")
    return orientation_facts(affine, shape) | {"warnings": warnings}


def orientation_facts(affine: np.ndarray, shape: list[int]) -> dict:
    """Returns the affine and the orientation of a volume, and its shape and voxel size along R, A and S."""
    order, spacing = np.argsort(nib.io_orientation(affine)[:, 0]), voxel_sizes(affine)
    return {
        "affine": affine.tolist(),
        "orientation": "".join(nib.aff2axcodes(affine)),
        "ras_shape": [shape[i] for i in order],
        "spacing": [round(float(spacing[i]), 6) for i in order],
    }


def sizes_text(numbers) -> str:
    """Joins sizes for a message: `1.5 x 1.5 x 3`."""
    return " x ".join(f"{float(number):.4g}" for number in numbers)


def check_extensions(start: bytes, header: nib.Nifti1Header) -> None:
    """Reads the extensions between header and voxels in the same way as nibabel."""
    try:
        type(header).from_fileobj(io.BytesIO(start), check=False)
    except Exception as error:
        raise ValueError(f"found a broken header extension ({first_line(error)}); write it again") from error


def voxel_count(shape: list[int]) -> int:
    return shape[0] * shape[1] * shape[2]


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, 100 characters at most."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]


def refuse(text: str) -> NoReturn:
    raise ValueError(text)
