"""The header of a NIfTI file read with distrust: all it claims is held against bounds before any room is made for it.

What is wrong is raised as a ValueError, whose text goes after the name of the file.
"""

import io
import logging
import zlib
from typing import NoReturn

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes

from scripts.data.label_maps import GRID_TOLERANCE_MM, furthest_corner_mm

AXIS = (8, 2048)  # voxels along one axis
LARGEST_VOXELS = 512 * 2**20
LARGEST_BYTES = 2 * 2**30  # of the voxels, unpacked
LARGEST_OFFSET = 4 * 2**20  # bytes in front of the voxels: header and extensions
SPACING_MM = (0.05, 20.0)
FURTHEST_MM = 1e6  # that an affine may put a voxel
FLATTEST = 1e-3  # volume of a voxel over that of a box with its edges; 0 is singular
START = 2**16  # bytes on disk in which the header must stand, compressed or not
UNPACKED = 1024  # bytes that are enough for a header
NUMBERS = [np.dtype(kind) for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")]
OTHERS = {  # what stands under a NIfTI's name now and then
    b"\x1f\x8b": "a compressed file; rename it to end in .nii.gz",
    b"PK": "a zip archive; unpack it",
    b"NRRD": "an NRRD file; convert it",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with git lfs pull",
    b"<": "a web page or XML; download the file again",
}
quiet = logging.Logger("nibabel's remarks on what it mends", logging.CRITICAL + 1)


def read_header(start: bytes, compressed: bool) -> nib.Nifti1Header:
    """The header at the start of a file, unpacked in a bounded buffer."""
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
            known = ["a DICOM file; convert the series with dcm2niix -z y -o OUT DIR"]
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
    """NIfTI-1 or NIfTI-2, told by the first number in either order of bytes."""
    numbers = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    return nib.Nifti1Header if 348 in numbers else nib.Nifti2Header if 540 in numbers else None


def grid(header: nib.Nifti1Header) -> dict:
    """Shape, type, affine and spacing that the header claims, each within bounds."""
    count, *dims = (int(n) for n in header["dim"])
    if not (count == 3 or (count == 4 and dims[3] == 1)):
        refuse(f"found {count} axes, {dims[: max(0, count)]}, expected one volume of 3; extract it first")
    shape = dims[:3]
    if not all(AXIS[0] <= n <= AXIS[1] for n in shape):
        refuse(f"found shape {tuple(shape)}, expected {AXIS[0]} to {AXIS[1]} voxels along each axis; crop or resample")
    try:
        dtype = header.get_data_dtype()
    except Exception:
        refuse(f"found data type {int(header['datatype'])}, unknown to NIfTI; write it again as float32 or int16")
    if dtype.newbyteorder("=") not in NUMBERS:
        refuse(f"found data type {dtype}, expected one real number a voxel; write it as float32 or int16")
    size = voxels(shape) * dtype.itemsize
    if voxels(shape) > LARGEST_VOXELS or size > LARGEST_BYTES:
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
        refuse(f"found a spacing of {listed(pixdim)} mm, expected {SPACING_MM[0]} to {SPACING_MM[1]}; mend the header")
    return {"shape": shape, "dtype": str(dtype.newbyteorder("="))} | placement(header, shape, pixdim)


def placement(header: nib.Nifti1Header, shape: list[int], pixdim: list[float]) -> dict:
    """Affine and what follows from it, with warnings where the header contradicts itself."""
    try:
        header.check_fix(logger=quiet)  # what nibabel refuses or mends when it opens the file
        affine = header.get_best_affine()
        other = header.get_qform() if int(header["qform_code"]) and int(header["sform_code"]) else affine
    except Exception as error:  # nibabel raises many kinds
        raise ValueError(f"found a broken header ({reason(error)}); write it again") from error
    if not np.isfinite(affine).all() or np.abs(affine).max() > FURTHEST_MM:
        refuse("found an affine that is not finite or beyond all measure; mend sform and qform in the header")
    spacing = voxel_sizes(affine)
    box = float(np.prod(spacing))
    if box == 0 or abs(np.linalg.det(affine[:3, :3])) < FLATTEST * box:
        refuse("found an affine that is singular, all voxels lie in one plane; mend sform and qform in the header")
    if not all(SPACING_MM[0] <= size <= SPACING_MM[1] for size in spacing):
        refuse(
            f"found an affine with a spacing of {listed(spacing)} mm, expected {SPACING_MM[0]} to {SPACING_MM[1]}; "
            "mend sform and qform in the header"
        )
    if not np.allclose(pixdim, spacing):
        away = furthest_corner_mm(shape, affine, header.get_qform())  # what MONAI takes then, even one never set
        if not away <= GRID_TOLERANCE_MM:
            refuse(
                f"found pixdim {listed(pixdim)} mm but an sform with {listed(spacing)} mm; MONAI would go by the qform "
                f"and put a corner {away:.1f} mm away; mend the header: the three must agree"
            )
    warnings = []
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        warnings.append("neither sform nor qform: which side is left is a guess")
    elif not np.isfinite(other).all() or furthest_corner_mm(shape, affine, other) > GRID_TOLERANCE_MM:
        warnings.append("sform and qform place it differently; sform is taken")
    return axes(affine, shape) | {"warnings": warnings}


def axes(affine: np.ndarray, shape: list[int]) -> dict:
    """How a volume lies: its affine, and shape and voxel size along R, A and S."""
    order, spacing = np.argsort(nib.io_orientation(affine)[:, 0]), voxel_sizes(affine)
    return {
        "affine": affine.tolist(),
        "orientation": "".join(nib.aff2axcodes(affine)),
        "ras_shape": [shape[i] for i in order],
        "spacing": [round(float(spacing[i]), 6) for i in order],
    }


def listed(numbers) -> str:
    return " x ".join(f"{float(number):.4g}" for number in numbers)


def extensions(start: bytes, header: nib.Nifti1Header) -> None:
    """Reads what stands between header and voxels as nibabel will."""
    try:
        type(header).from_fileobj(io.BytesIO(start), check=False)
    except Exception as error:
        raise ValueError(f"found a broken header extension ({reason(error)}); write it again") from error


def voxels(shape: list[int]) -> int:
    return shape[0] * shape[1] * shape[2]


def reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]


def refuse(text: str) -> NoReturn:
    raise ValueError(text)
