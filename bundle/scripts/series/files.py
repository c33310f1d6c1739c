"""Finds DICOM files in a folder, in a zip archive, or by a DICOMDIR, and opens them; nothing is unpacked to the disk.

A file is DICOM if it has the marker `DICM` behind its preamble, whatever its name is. `index.py` uses this module.
"""

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from scripts.core.errors import UserError
from scripts.core.extras import require

MARKER = 132  # bytes: a preamble of 128, then DICM
LARGEST_FILE = 2**29  # bytes
MOST_MEMBERS = 200_000  # of a zip archive
SUSPECT_SIZE, SUSPECT_RATIO = 2**26, 200  # of a zip archive: a larger member that is packed more tightly is refused


@dataclass(frozen=True)
class DicomFile:
    """A file on the disk, or a member of a zip archive.

    Attributes:
        path: of the file, or of the archive.
        member: name in the archive, or "".
    """

    path: str
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else self.path

    def read(self) -> bytes:
        """The whole content."""
        with self.open() as stream:
            return stream.read()

    def open(self) -> BinaryIO:
        """A stream that can be sought in.

        Raises:
            ValueError: the file is too large, is packed suspiciously tightly, or is not a regular one.
        """
        if not self.member:
            refuse_size(regular_size(self.path))
            return open(self.path, "rb")
        archive = opened_archive(self.path, os.stat(self.path).st_mtime_ns, os.getpid())
        return io.BytesIO(unpack(archive, archive.getinfo(self.member)))


@lru_cache(maxsize=1)
def opened_archive(path: str, time: int, process: int) -> zipfile.ZipFile:
    """An archive that stays open, as its table of contents may be long.

    Args:
        path: of the archive.
        time: of its last change; then it is opened anew.
        process: number of this process; two can't share the place where they read.
    """
    return zipfile.ZipFile(path)


def regular_size(path: str | Path) -> int:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("found a folder, a pipe or a device, expected a file")
    return found.st_size


def refuse_size(size: int) -> None:
    if size > LARGEST_FILE:
        raise ValueError(f"found {size:,} bytes, expected {LARGEST_FILE:,} at most")


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int = LARGEST_FILE) -> bytes:
    """The content of a member of an archive, or its first bytes.

    Args:
        archive: open for reading.
        member: one of its entries.
        most: bytes that are read.
    """
    refuse_size(member.file_size)
    if member.file_size > SUSPECT_SIZE and member.file_size > SUSPECT_RATIO * max(member.compress_size, 1):
        raise ValueError(f"unpacks to {member.file_size / max(member.compress_size, 1):.0f} times its size")
    with archive.open(member) as stream:
        return stream.read(min(most, member.file_size))


def is_dicom(path: str | Path) -> bool:
    """Returns whether a file has the marker of DICOM."""
    try:
        regular_size(path)
        with open(path, "rb") as file:
            return has_marker(file.read(MARKER))
    except (OSError, ValueError):
        return False


def has_marker(start: bytes) -> bool:
    return start[MARKER - 4 : MARKER] == b"DICM"


def is_dicomdir(path: str | Path) -> bool:
    return Path(path).name.upper() == "DICOMDIR"


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(".zip")


def find_files(source: str | Path) -> tuple[list[DicomFile], list[str]]:
    """Finds the DICOM files of a source.

    Args:
        source: a folder with files at any depth, zip archives among them; a zip archive; a DICOMDIR, whose files are
            taken; or a single DICOM file.

    Returns:
        The files in the order of their names, and a line for everything that looks like a part of an export and can't
        be used.
    """
    path = Path(source)
    if path.is_dir():
        files: list[DicomFile] = []
        lines: list[str] = []
        others = 0
        for file in walk(path):
            if is_archive(file):
                inside, faults = archive_files(file)
                files, lines = files + inside, lines + faults
            elif is_dicom(file):
                files += [] if is_dicomdir(file) else [DicomFile(str(file))]
            else:
                others += 1
        if others and files:
            lines.append(f"{path}: {others} file(s) in it are not DICOM (no marker DICM) and are not read")
        return files, lines
    if is_archive(path):
        return archive_files(path)
    if is_dicomdir(path):
        return listed_files(path)
    return ([DicomFile(str(path))] if is_dicom(path) else []), []


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, in order; links to folders are not followed."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root) / name for name in sorted(names))


def archive_files(path: Path) -> tuple[list[DicomFile], list[str]]:
    """The DICOM files in a zip archive."""
    files, lines = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MOST_MEMBERS:
                raise ValueError(f"found {len(members):,} files in it, expected {MOST_MEMBERS:,} at most")
            for member in members:
                try:
                    if has_marker(unpack(archive, member, MARKER)) and not is_dicomdir(member.filename):
                        files.append(DicomFile(str(path), member.filename))
                except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
                    lines.append(f"{path}/{member.filename}: not readable ({first_line(error)}); export it again")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        lines.append(f"{path}: not readable as a zip archive ({first_line(error)}); copy or pack it again")
    return sorted(files, key=str), lines


def listed_files(path: Path) -> tuple[list[DicomFile], list[str]]:
    """The files that a DICOMDIR lists. A path that leads out of its folder is refused."""
    pydicom = require("pydicom", "dicom", str(path))
    try:
        refuse_size(regular_size(path))
        records = pydicom.dcmread(path, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        listed = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
    except Exception as error:  # pydicom raises many kinds for a damaged file
        raise UserError(
            f"{path}: not readable as a DICOMDIR ({first_line(error)}); name its folder with --dataset_dir"
        ) from error
    files, lines = [], []
    root = path.parent.resolve()
    for parts in listed:
        shown = "/".join([parts] if isinstance(parts, str) else map(str, parts or []))
        file = (root / shown).resolve()
        if root not in file.parents:
            lines.append(f"{path}: lists {shown!r}, which is not in its folder; not read")
        elif not is_dicom(file):
            lines.append(f"{path}: lists {shown!r}, but there is no such DICOM file; export it again")
        else:
            files.append(DicomFile(str(file)))
    return files, lines


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:120]
