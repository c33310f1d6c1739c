"""Inputs for tests of everything that reads images: wrong ones, and unusual ones that are valid.

`write_corpus` writes them. All images and labels differ, so that no case is a copy of another.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

CLASSES = ["background", "body", "bones", "bladder", "rectum", "prostate"]
SHAPE = (16, 14, 12)
AFFINE = np.diag([-2.0, -2.0, 2.5, 1.0])
BOMB = 3 * 2**30  # bytes that the gzip bomb unpacks to
SMALL = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
HUGE = (10_000,) * 3  # voxels that a header claims


class CorpusEntry(NamedTuple):
    """One image with its label.

    Attributes:
        name: name of the entry; the names of its files begin with it.
        image, label: paths; a label of None is missing on purpose.
        valid: whether the entry must be accepted.
        word: a part of the line that must be reported; for a valid entry a part of its warning, or empty.
        wrong: the file with the fault.
    """

    name: str
    image: Path
    label: Path | None
    valid: bool
    word: str
    wrong: Path


def write_corpus(folder: Path) -> list[CorpusEntry]:
    """Writes all inputs below `folder` and returns a list of them."""
    made = []
    for number, (name, change, valid, word) in enumerate([*wrong_images(), *wrong_labels(), *odd()]):
        rng = np.random.default_rng(number)
        pair = Pair(folder, name, pixels(rng), labels(rng))
        pair.write()
        change(pair)
        made.append(
            CorpusEntry(
                name, pair.image, pair.label, valid, word, pair.label if name.startswith("label") else pair.image
            )
        )
    return made


def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 1000, SHAPE, dtype=np.int16)


def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, len(CLASSES), SHAPE, dtype=np.uint8)


class Pair:
    """A valid image and label, which a change then makes wrong or unusual."""

    def __init__(self, folder: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
        self.folder, self.name = folder, name
        self.image, self.label = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
        self.pixels, self.labels = image, label

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save(self.image, self.pixels)
        save(self.label, self.labels)


def nifti(values: np.ndarray, affine: np.ndarray = AFFINE, kind=nib.Nifti1Image, **fields) -> bytes:
    """A NIfTI file, uncompressed, with header fields set afterwards, however little sense they make."""
    volume = kind(values, affine, dtype=values.dtype)
    volume.header.set_xyzt_units("mm")
    content = volume.to_bytes()
    size = kind.header_class.template_dtype.itemsize
    header = kind.header_class(content[:size], check=False)
    for key, value in fields.items():
        header[key] = value
    return header.binaryblock + content[size:]


def packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, **fields) -> None:
    content = nifti(values, affine, **fields)
    path.write_bytes(packed(content) if path.name.lower().endswith(".gz") else content)


def image_bytes(change: Callable[[bytes], bytes]) -> Callable[[Pair], None]:
    """Changes the bytes of the image's file."""
    return lambda pair: pair.image.write_bytes(change(pair.image.read_bytes()))


def label_bytes(change: Callable[[bytes], bytes]) -> Callable[[Pair], None]:
    return lambda pair: pair.label.write_bytes(change(pair.label.read_bytes()))


def header(**fields) -> Callable[[Pair], None]:
    """An image with these header fields."""
    return lambda pair: save(pair.image, pair.pixels, **fields)


def placed(affine, **fields) -> Callable[[Pair], None]:
    """An image with this sform, and as far as it goes the qform."""
    rows = {f"srow_{axis}": np.asarray(affine)[i] for i, axis in enumerate("xyz")}
    return lambda pair: save(pair.image, pair.pixels, **rows, sform_code=1, **fields)


def both(affine) -> Callable[[Pair], None]:
    """Image and label with this affine."""

    def change(pair: Pair) -> None:
        save(pair.image, pair.pixels, affine)
        save(pair.label, pair.labels, affine)

    return change


def image_values(make: Callable[[np.ndarray], np.ndarray], **fields) -> Callable[[Pair], None]:
    return lambda pair: save(pair.image, make(pair.pixels), **fields)


def label_values(make: Callable[[np.ndarray], np.ndarray], affine=AFFINE, **fields) -> Callable[[Pair], None]:
    return lambda pair: save(pair.label, make(pair.labels), affine, **fields)


def with_one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """The same values as float32, one of them replaced."""

    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        values[7, 7, 7] = value
        return values

    return change


def replaced(ending: str, make: Callable[[Pair, Path], None]) -> Callable[[Pair], None]:
    """The image under another ending, made by `make`."""

    def change(pair: Pair) -> None:
        content = pair.image
        pair.image = pair.folder / f"{pair.name}{ending}"
        content.rename(pair.folder / f".{pair.name}.taken.gz")
        make(pair, pair.image)

    return change


def other_file(make: Callable[[Pair, Path], None]) -> Callable[[Pair], None]:
    return replaced(".nii.gz", make)


def plain(content: bytes) -> bytes:
    return gzip.decompress(content)


def exchange(pair: Pair) -> None:
    pair.image, pair.label = pair.label, pair.image


def no_label(pair: Pair) -> None:
    pair.label.unlink()


def flip(content: bytes, position: int, bit: int = 0) -> bytes:
    position %= len(content)
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


def bomb(start: bytes) -> bytes:
    """A whole gzip file, checksum and all, that begins with `start` and goes on with zeros for 3 GiB."""
    piece = bytes(2**24)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)  # stands by itself, so it may be repeated
    count = BOMB // len(piece)
    checksum = zlib.crc32(start)
    for _ in range(count):
        checksum = zlib.crc32(piece, checksum)
    end = packer.flush() + struct.pack("<II", checksum, (len(start) + count * len(piece)) % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + first + block * count + end


def named_member(content: bytes) -> bytes:
    """A gzip file that tells the name of what was packed, as the command `gzip` writes it."""
    found = packed(content)
    return found[:3] + b"\x08" + found[4:10] + b"scan.nii\0" + found[10:]


def with_extension(content: bytes, size: int, claimed: int | None = None) -> bytes:
    """A NIfTI-1 file with one header extension of `size` bytes, which says of itself that it has `claimed`."""
    start = bytearray(content[:348])
    start[108:112] = struct.pack("<f", 352 + size)
    extension = struct.pack("<ii", claimed or size, 6) + b"made by a test".ljust(size - 8, b"\0")
    return bytes(start) + b"\1\0\0\0" + extension + content[352:]


def swapped_order(pair: Pair) -> None:
    volume = nib.Nifti1Image(pair.pixels, AFFINE, nib.Nifti1Header(endianness=">"))
    volume.header.set_data_dtype(np.dtype(">i2"))
    pair.image.write_bytes(packed(volume.to_bytes()))


def qform_only(pair: Pair) -> None:
    save(pair.image, pair.pixels, sform_code=0, qform_code=1, **qform(AFFINE))
    save(pair.label, pair.labels, sform_code=0, qform_code=1, **qform(AFFINE))


def qform(affine: np.ndarray) -> dict:
    made = nib.Nifti1Header()
    made.set_qform(affine)
    names = [f"quatern_{n}" for n in "bcd"] + [f"qoffset_{n}" for n in "xyz"] + ["pixdim"]
    return {name: made[name] for name in names}


def unplaced(pair: Pair) -> None:
    save(pair.image, pair.pixels, sform_code=0, qform_code=0)
    save(pair.label, pair.labels, nib.load(pair.image).affine)


def pixdim(*sizes: float) -> np.ndarray:
    return np.array([1, *sizes, 0, 0, 0, 0], np.float32)


def dims(*counts: int) -> np.ndarray:
    """The field `dim` of a header: the number of axes, then the size of each."""
    return np.array([len(counts), *counts, *[1] * (7 - len(counts))])


def wrong_images() -> Iterator[tuple]:
    """Yields name, change, False (not valid) and word of every entry with a wrong image."""
    gone = other_file(lambda pair, path: None)
    loop = other_file(lambda pair, path: path.symlink_to(path))
    for name, change, word in (
        # nothing to read
        ("missing", gone, "No such file"),
        ("dangling_link", other_file(lambda pair, path: path.symlink_to("nowhere.nii.gz")), "No such file"),
        ("link_to_itself", loop, "Too many levels"),
        ("folder", other_file(lambda pair, path: path.mkdir()), "a folder"),
        ("pipe", other_file(lambda pair, path: os.mkfifo(path)), "a pipe"),
        ("device", other_file(lambda pair, path: path.symlink_to("/dev/zero")), "a device"),
        ("empty", image_bytes(lambda c: b""), "an empty file"),
        ("other_ending", replaced(".mha", lambda pair, path: path.write_bytes(b"ObjectType = Image")), "ends in .nii"),
        # no NIfTI
        ("text", image_bytes(lambda c: packed(b"no image" * 100)), "no NIfTI header"),
        ("zip", replaced(".nii", lambda pair, path: path.write_bytes(b"PK\3\4" + bytes(500))), "a zip archive"),
        ("dicom", replaced(".nii", lambda pair, path: path.write_bytes(bytes(128) + b"DICM" * 99)), "a DICOM file"),
        ("web_page", replaced(".nii", lambda pair, path: path.write_bytes(b"<!doctype html>" * 40)), "a web page"),
        ("pointer", image_bytes(lambda c: b"version https://git-lfs.github.com/spec/v1\n"), "not compressed"),
        ("nrrd", replaced(".nii", lambda pair, path: path.write_bytes(b"NRRD0004\n" * 50)), "an NRRD file"),
        ("half_a_header", image_bytes(lambda c: packed(plain(c)[:200])), "less than a NIfTI header"),
        ("not_compressed", image_bytes(plain), "rename it to end in .nii"),
        ("compressed", replaced(".nii", lambda pair, path: save_packed(pair, path)), "rename it to end in .nii.gz"),
        ("pair_header", header(magic=b"ni1"), "a pair .hdr and .img"),
        ("other_magic", header(magic=b"abc"), "expected b'n+1'"),
        ("other_size_of_header", header(sizeof_hdr=347), "no NIfTI header"),
        # incomplete
        ("half", image_bytes(lambda c: c[: len(c) // 2]), "incomplete"),
        ("no_checksum", image_bytes(lambda c: c[:-8]), "incomplete"),
        ("half_a_checksum", image_bytes(lambda c: c[:-4]), "incomplete"),
        ("wrong_checksum", image_bytes(lambda c: flip(c, -6)), "incorrect data check"),
        ("wrong_length", image_bytes(lambda c: flip(c, -2)), "incorrect length check"),
        ("flipped_bit", image_bytes(lambda c: flip(c, len(c) // 2)), "incomplete"),
        ("voxels_missing", image_bytes(lambda c: packed(plain(c)[:-100])), "ends before its last voxel"),
        ("plain_cut", replaced(".nii", lambda pair, path: path.write_bytes(nifti(pair.pixels)[:-1])), "expected 5728"),
        ("plain_too_long", replaced(".nii", lambda p, path: path.write_bytes(nifti(p.pixels) + bytes(2000))), "7728"),
        ("something_follows", image_bytes(lambda c: c + b"garbage"), "is not gzip follows"),
        ("too_long", image_bytes(lambda c: packed(plain(c) + bytes(5000))), "more than the 5728 bytes"),
        ("bomb", image_bytes(lambda c: bomb(nifti(SMALL, dim=dims(128, 128, 128)))), "more than the 4194656 bytes"),
        ("large_for_its_header", image_bytes(lambda c: bomb(plain(c))), "expected 5728 by its header"),
        # headers
        ("huge", header(dim=dims(*HUGE)), "shape (10000, 10000, 10000)"),
        ("many_voxels", image_values(lambda v: v.astype(np.uint8), dim=dims(1000, 1000, 1000)), "536870912 voxels"),
        ("many_bytes", image_values(lambda v: v.astype(np.float64), dim=dims(2000, 500, 500)), "2147483648 bytes"),
        ("negative_axis", header(dim=dims(16, -14, 12)), "shape (16, -14, 12)"),
        ("no_axis", header(dim=dims(16, 14, 0)), "shape (16, 14, 0)"),
        ("thin", image_values(lambda v: v[:, :, :2]), "expected 8 to 2048 voxels"),
        ("two_axes", image_values(lambda v: v[:, :, 0]), "found 2 axes"),
        ("many_volumes", image_values(lambda v: np.stack([v, v, v], -1)), "found 4 axes"),
        ("five_axes", image_values(lambda v: v[..., None, None]), "found 5 axes"),
        ("complex", image_values(lambda v: v.astype(np.complex64)), "data type complex64"),
        ("colour", image_values(rgb), "one real number per voxel"),
        ("long_double", header(datatype=1536), "found data type"),
        ("unknown_type", header(datatype=9999), "data type 9999"),
        ("spacing_0", header(pixdim=pixdim(0, 2, 2)), "a spacing of 0 x 2 x 2"),
        ("spacing_nan", header(pixdim=pixdim(2, np.nan, 2)), "a spacing of 2 x nan x 2"),
        ("spacing_negative", header(pixdim=pixdim(2, 2, -2)), "a spacing of 2 x 2 x -2"),
        ("micrometres", header(pixdim=pixdim(1500, 1500, 2000)), "a spacing of 1500 x"),
        ("two_spacings", header(pixdim=pixdim(2, 2, 3)), "found pixdim 2 x 2 x 3 mm but an sform with 2 x 2 x 2.5"),
        (
            "no_qform",
            header(pixdim=pixdim(2.0001, 2, 2.5), quatern_b=0, quatern_c=0, quatern_d=0),
            "MONAI would use the qform",
        ),
        ("affine_nan", placed(np.where(np.eye(4), np.nan, 0)), "an affine with numbers that are not finite"),
        ("affine_singular", placed(np.array([[2, 2, 0, 0], [2, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])), "singular"),
        ("affine_0", placed(np.zeros((4, 4))), "singular"),
        ("metres", placed(np.diag([0.002, 0.002, 0.002, 1])), "an affine with a spacing of 0.002"),
        ("far_away", placed(AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 1e20])), "not finite or beyond"),
        ("no_rotation", header(sform_code=0, qform_code=1, quatern_b=1, quatern_c=1, quatern_d=1), "a broken header"),
        ("slope_infinite", header(scl_slope=np.inf, scl_inter=0), "scaling by inf"),
        ("intercept_nan", header(scl_slope=1, scl_inter=np.nan), "scaling by 1 and nan"),
        ("offset_0", header(vox_offset=0), "voxels at byte 0"),
        ("offset_huge", header(vox_offset=1e9), "voxels at byte 1e+09"),
        ("offset_nan", header(vox_offset=np.nan), "voxels at byte nan"),
        ("extension", image_bytes(lambda c: packed(with_extension(plain(c), 32, 2**20))), "header extension"),
        # values
        ("nan", image_values(with_one(np.nan)), "not finite"),
        ("infinite", image_values(with_one(-np.inf)), "not finite"),
        ("overflow", image_values(with_one(1e30)), "expected 1e+15 at most"),
        ("scaled_overflow", header(scl_slope=1e38, scl_inter=0), "expected 1e+15 at most"),
        ("constant", image_values(lambda v: np.full_like(v, 77)), "the value 77 everywhere"),
        ("black", image_values(np.zeros_like), "the value 0 everywhere"),
        ("a_label_map", image_values(lambda v: v % 5), "looks like a label map"),
        ("a_mask", image_values(lambda v: (v > 500).astype(np.float32)), "looks like a label map"),
        ("swapped", exchange, "they are swapped"),
    ):
        yield name, change, False, word


def wrong_labels() -> Iterator[tuple]:
    """Yields the same for wrong labels; these names begin with `label`."""
    shifted, flipped = AFFINE.copy(), AFFINE * [[-1], [1], [1], [1]]
    shifted[1, 3] += 3
    for name, change, word in (
        ("missing", no_label, "No such file"),
        ("half", label_bytes(lambda c: c[: len(c) // 2]), "incomplete"),
        ("nan", label_values(with_one(np.nan)), "not finite"),
        ("shape", label_values(lambda v: v[1:]), "found shape (15, 14, 12)"),
        ("moved", label_values(lambda v: v, shifted), "3.00 mm"),
        ("flipped", label_values(lambda v: v, flipped), "resample it to that grid"),
        ("spacing", label_values(lambda v: v, AFFINE * 1.1), "resample it to that grid"),
        ("beyond", label_values(lambda v: np.where(v == 5, 6, v).astype(np.uint8)), "found label 6"),
        ("mask_255", label_values(lambda v: (v > 2).astype(np.uint8) * 255), "found label 255"),
        ("negative", label_values(lambda v: v.astype(np.int16) - 1), "found label -1"),
        ("interpolated", label_values(with_one(2.5)), "found 2.5, not a label"),
        ("probabilities", label_values(lambda v: (v / 5).astype(np.float32)), "does it hold probabilities"),
        ("empty", label_values(np.zeros_like), "contains only background"),
        ("full", label_values(np.ones_like), "contains only label 1"),
        ("an_image", lambda pair: save(pair.label, pair.pixels[::-1]), "looks like an image"),
        ("the_image", lambda pair: save(pair.label, pair.pixels.astype(np.float32)), "the same voxels as its image"),
    ):
        yield f"label_{name}", change, False, word


def odd() -> Iterator[tuple]:
    """Yields the same for entries that must be accepted; the word is a part of the warning, if there is one."""
    for kind in ("u1", "i1", "u2", "i4", "u4", "i8", "u8", "f4", "f8"):
        yield f"type_{kind}", image_values(lambda v, kind=kind: (v % 120).astype(kind)), True, ""
    for kind in ("i2", "u2", "i8", "f4", "f8"):
        yield f"label_{kind}", label_values(lambda v, kind=kind: v.astype(kind)), True, ""
    for codes in ("RAS", "LAS", "PSR", "SLA"):
        yield f"axes_{codes}", both(toward(codes)), True, ""
    turned = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, 0.3) @ AFFINE[:3, :3], [5, -70, 33])
    neither = "neither sform nor qform"
    for name, change, word in (
        ("oblique", both(turned), ""),
        ("anisotropic", both(np.diag([0.4, 0.4, 6.0, 1.0])), ""),
        ("fourth_axis", image_values(lambda v: v[..., None]), ""),
        ("scaled", header(scl_slope=0.01, scl_inter=-3), ""),
        ("slope_0", header(scl_slope=0, scl_inter=0), ""),
        ("label_scaled", label_values(lambda v: v * 2, scl_slope=0.5, scl_inter=0), ""),
        ("label_rounded", label_values(lambda v: v * np.float32(0.9999)), ""),
        ("negative_values", image_values(lambda v: v - 500), ""),
        ("zeros_with_a_sign", image_values(lambda v: np.where(v > 500, v, -0.0).astype(np.float32)), ""),
        ("Prüfung_é_前立腺", header(), ""),
        ("name with  spaces", header(), ""),
        ("link", other_file(lambda pair, path: path.symlink_to(f".{pair.name}.taken.gz")), ""),
        ("plain", replaced(".nii", lambda pair, path: save(path, pair.pixels)), ""),
        ("CAPITALS", replaced(".NII.GZ", lambda pair, path: save(path, pair.pixels)), ""),
        (
            "padded",
            replaced(".nii", lambda p, path: path.write_bytes(nifti(p.pixels) + bytes(512))),
            "512 bytes follow",
        ),
        ("big_endian", swapped_order, ""),
        ("nifti_2", lambda pair: save(pair.image, pair.pixels, kind=nib.Nifti2Image), ""),
        ("name_inside", image_bytes(lambda c: named_member(plain(c))), ""),
        ("two_members", image_bytes(lambda c: packed(plain(c)[:999]) + packed(plain(c)[999:])), ""),
        ("zeros_follow", image_bytes(lambda c: c + bytes(700)), ""),
        ("stored", image_bytes(lambda c: gzip.compress(plain(c), 0)), ""),
        ("extended", image_bytes(lambda c: packed(with_extension(plain(c), 64))), ""),
        ("qform_only", qform_only, ""),
        ("unplaced", unplaced, neither),
        ("two_places", header(sform_code=1, qform_code=1, qoffset_x=30), "give different positions"),
        ("spacing_rounded", header(**qform(AFFINE) | {"pixdim": pixdim(2.0001, 2, 2.5)}), ""),
    ):
        yield name, change, True, word


def toward(codes: str) -> np.ndarray:
    """An affine whose axes run to these sides, 2 mm apart."""
    turn = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), SHAPE)
    return turn @ np.diag([2.0, 2.0, 2.0, 1.0])


def rgb(values: np.ndarray) -> np.ndarray:
    found = np.zeros(values.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    found["R"] = values % 256
    return found


def save_packed(pair: Pair, path: Path) -> None:
    path.write_bytes(packed(nifti(pair.pixels)))
