"""Hostile and odd DICOM input for tests: each entry writes files into a folder of its own.

`python series_corpus.py FOLDER` reads all of them in one process, as inference would, and prints a JSON line for each.
"""

import importlib.util
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from series_samples import edit, make_series, slices_of

Make = Callable[[Path], object]
DEFLATED = "1.2.840.10008.1.2.1.99"
MIB = 2**20


def corpus() -> Iterator[tuple[str, Make]]:
    """Names of entries, and functions that write them into an empty folder."""
    for part in (0, 1, 128, 131, 132, 140, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200):
        yield f"cut at {part}", partial(cut, at=part)
    for seed in range(60):
        yield f"header with changed bytes {seed}", partial(change_bytes, seed=seed, header=True)
    for syntax in ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"):
        for seed in range(6):
            yield f"broken pixels {syntax} {seed}", partial(break_pixels, syntax=syntax, seed=seed)
    for word, value in ODD_VALUES:
        yield f"{word} {str(value)[:30]!r}", partial(set_header, word=word, value=value)
    yield from {
        "length of an element without end": partial(patch, old=b"PN", new=b"UN\0\0\xff\xff\xff\xff"),
        "length of an element beyond the file": partial(patch, old=b"LO", new=b"UT\0\0\xff\xff\xff\x7f"),
        "sequences in sequences": nested,
        "private headers": private,
        "many headers": many_headers,
        "deflated bomb": deflated_bomb,
        "archive that unpacks to 600 MiB": partial(archive, size=600),
        "archive of a small file that unpacks to 100 MiB": partial(archive, size=100),
        "archive with paths that lead out": partial(archive, name="../../../outside"),
        "archive with an absolute path": partial(archive, name="/outside"),
        "archive in an archive": archive_in_archive,
        "archive that is cut off": partial(archive, keep=200),
        "archive of nothing": lambda folder: (folder / "a.zip").write_bytes(b""),
        "archive of 3000 files": many_members,
        "archive with a password": with_password,
        "DICOMDIR of nothing": lambda folder: (folder / "DICOMDIR").write_bytes(b""),
        "DICOMDIR of noise": lambda folder: (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + noise(2000)),
        "names with lines and other letters": odd_names,
        "pipe": lambda folder: os.mkfifo(folder / "pipe.dcm"),
        "link to itself": lambda folder: (folder / "link").symlink_to(folder / "link"),
        "link to the folder above": lambda folder: (folder / "up").symlink_to(folder.parent),
        "link to a device": lambda folder: (folder / "zero.dcm").symlink_to("/dev/zero"),
        "file of marks only": lambda folder: (folder / "a").write_bytes(marked(132)),
        "file that is sparse": sparse,
    }.items()
    for package in ("pydicom/data/test_files", "nibabel/nicom/tests/data", "nibabel/tests/data"):
        name, _, inside = package.partition("/")
        root = Path(importlib.util.find_spec(name).origin).parent / inside
        for file in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".py"):
            yield f"{name}: {file.relative_to(root)}", partial(link, file=file)


ODD_VALUES = [
    ("Rows", 60000),
    ("Columns", 65535),
    ("Rows", 1),
    ("NumberOfFrames", "999999999"),
    ("BitsAllocated", 1),
    ("BitsAllocated", 7),
    ("BitsStored", 200),
    ("PixelRepresentation", 9),
    ("PixelSpacing", ["nan", "1"]),
    ("PixelSpacing", ["-1", "1"]),
    ("PixelSpacing", ["1e300", "1"]),
    ("PixelSpacing", ["1"]),
    ("ImagePositionPatient", ["inf", "0", "0"]),
    ("ImagePositionPatient", ["0", "0"]),
    ("ImagePositionPatient", ["1e9", "0", "0"]),
    ("ImageOrientationPatient", ["0", "0", "0", "0", "0", "0"]),
    ("ImageOrientationPatient", ["nan"] * 6),
    ("RescaleSlope", "nan"),
    ("RescaleSlope", "1e300"),
    ("RescaleSlope", "0"),
    ("PatientID", "../../../outside"),
    ("PatientID", "x" * 5000),
    ("PatientID", "a\nb\0c"),
    ("PatientID", "\u60a3\u8005 \U0001f9b4"),
    ("PatientID", "<script>alert(1)</script>"),
    ("SeriesDescription", "/etc/passwd"),
    ("SeriesDescription", "..\\..\\windows"),
    ("SeriesDescription", "% $HOME `id`"),
    ("SeriesNumber", "-999999999999"),
    ("StudyDate", "99999999"),
    ("StudyDate", "yesterday"),
    ("SeriesInstanceUID", "no uid"),
    ("SOPInstanceUID", "1.2.3"),
    ("Modality", ""),
    ("EchoTime", "many"),
    ("SpecificCharacterSet", "ISO_IR 9999"),
]


@cache
def template() -> Path:
    """A sound series, which the entries begin with."""
    folder = Path(tempfile.mkdtemp())
    make_series(folder)
    return folder


def sound(folder: Path) -> None:
    shutil.copytree(template(), folder, dirs_exist_ok=True)


def cut(folder: Path, at: int) -> None:
    sound(folder)
    for file in slices_of(folder):
        file.write_bytes(file.read_bytes()[:at])


def change_bytes(folder: Path, seed: int, header: bool) -> None:
    sound(folder)
    dice = random.Random(seed)
    for file in slices_of(folder)[: 1 + seed % 10]:
        content = bytearray(file.read_bytes())
        for _ in range(1 + seed % 7):
            content[dice.randrange(132, 1200 if header else len(content))] = dice.randrange(256)
        file.write_bytes(content)


def break_pixels(folder: Path, syntax: str, seed: int) -> None:
    """Pixels of noise, or ones that begin like an image, in a compressed syntax."""
    import pydicom
    from pydicom.encaps import encapsulate

    starts = (b"", b"\xff\xd8\xff\xf7", b"\xff\xd8\xff\xc3", b"\xff\x4f\xff\x51\0\x29", struct.pack("<16I", *[15] * 16))
    sound(folder)
    for number, file in enumerate(slices_of(folder)):
        found = pydicom.dcmread(file)
        found.file_meta.TransferSyntaxUID = syntax
        found.PixelData = encapsulate([starts[seed % len(starts)] + noise(300 + number, seed)])
        found.save_as(file)


def set_header(folder: Path, word: str, value: object) -> None:
    import pydicom

    sound(folder)
    mode, pydicom.config.settings.writing_validation_mode = pydicom.config.settings.writing_validation_mode, 0
    try:
        for file in slices_of(folder):
            found = pydicom.dcmread(file)
            element = pydicom.DataElement(
                pydicom.datadict.tag_for_keyword(word),
                pydicom.datadict.dictionary_VR(word) if not isinstance(value, list | str) else "LO",
                value,
            )
            found[element.tag] = element
            found.save_as(file, implicit_vr=False, little_endian=True)
    finally:
        pydicom.config.settings.writing_validation_mode = mode


def patch(folder: Path, old: bytes, new: bytes) -> None:
    sound(folder)
    for file in slices_of(folder):
        content = file.read_bytes()
        at = content.index(old, 400)
        file.write_bytes(content[:at] + new + content[at + len(new) :])


def nested(folder: Path) -> None:
    sound(folder)
    for file in slices_of(folder):
        content = file.read_bytes()
        at = content.index(b"\x08\0\x60\0CS")
        start = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
        file.write_bytes(content[:at] + start * 3000 + content[at:])


def private(folder: Path) -> None:
    import pydicom

    sound(folder)
    for file in slices_of(folder):
        found = pydicom.dcmread(file)
        block = found.private_block(0x0019, "SOMEBODY'S HEADERS", create=True)
        for element in range(40):
            block.add_new(element, "OB", noise(50, element))
        found.save_as(file)


def many_headers(folder: Path) -> None:
    sound(folder)
    for file in slices_of(folder):
        content = file.read_bytes()
        more = b"".join(struct.pack("<HH2sH", 9, 0x1000 + i, b"UI", 2) + b"1\0" for i in range(5000))
        at = content.index(b"\x10\0\x10\0PN")
        file.write_bytes(content[:at] + more + content[at:])


def deflated_bomb(folder: Path) -> None:
    sound(folder)
    file = slices_of(folder)[0]
    edit(file, StudyID="2")
    content = file.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    meta = content[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta.replace(b"UI\x14\0" + DEFLATED.encode(), b"UI\x16\0" + DEFLATED.encode())
    meta = meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    packed = 700 * part + packer.flush()
    file.write_bytes(meta + packed)


def archive(folder: Path, size: int = 0, name: str = "a", keep: int | None = None) -> None:
    sound(folder / "scan")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in slices_of(folder / "scan"):
            packed.write(file, f"{name}{file.name}")
        if size:
            with packed.open("bomb", "w", force_zip64=True) as stream:
                stream.write(marked(MIB))
                for _ in range(size - 1):
                    stream.write(bytes(MIB))
    for file in slices_of(folder / "scan"):
        file.unlink()
    if keep:
        (folder / "a.zip").write_bytes((folder / "a.zip").read_bytes()[:keep])


def archive_in_archive(folder: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("a.dcm", marked(200))
    with zipfile.ZipFile(folder / "outer.zip", "w") as packed:
        packed.writestr("inner.zip", content.getvalue())


def many_members(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        for number in range(3000):
            packed.writestr(f"{number}", marked(140))


def with_password(folder: Path) -> None:
    """An archive that says of its members that they are encrypted."""
    archive(folder)
    content = bytearray((folder / "a.zip").read_bytes())
    for start, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(start)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(start, at + 1)
    (folder / "a.zip").write_bytes(content)


def odd_names(folder: Path) -> None:
    sound(folder)
    for number, file in enumerate(slices_of(folder)):
        file.rename(folder / f"a\nb '\"\u60a3 {number} ;")


def sparse(folder: Path) -> None:
    with (folder / "a.dcm").open("wb") as file:
        file.write(marked(132))
        file.truncate(2**40)


def link(folder: Path, file: Path) -> None:
    (folder / file.name).symlink_to(file)


def marked(size: int) -> bytes:
    """Zeros with the marker of DICOM among them."""
    content = bytearray(size)
    content[128:132] = b"DICM"
    return bytes(content)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def main(root: Path) -> None:
    from scripts.check.pictures import inspect_image
    from scripts.core.errors import UserError
    from scripts.data.datalist import list_images

    began_with = peak_mib()
    for number, (name, make) in enumerate(corpus()):
        folder = root / str(number)
        folder.mkdir()
        make(folder)
        began = time.perf_counter()
        try:
            read = [inspect_image(item["image"])["shape"] for item in list_images(str(folder))]
            outcome = f"read {read}"
        except UserError as error:
            outcome = str(error)
        except Exception as error:
            outcome = f"NOT CAUGHT {type(error).__name__}: {error}"
        seconds = time.perf_counter() - began
        print(json.dumps({"name": name, "outcome": outcome, "seconds": round(seconds, 3)}), flush=True)
    print(json.dumps({"peak_mib": peak_mib(), "imports_mib": began_with}))


def peak_mib() -> int:
    """The most memory that this process has had. What `resource` says has that of the process that started it in it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB


if __name__ == "__main__":
    main(Path(sys.argv[1]))
