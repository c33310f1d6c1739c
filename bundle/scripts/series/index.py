"""Sorts the DICOM files of a source into series and stacks, gives each a name, and chooses those to be read.

The path of a series is that of its source and its name: `export/PAT01_20260301_s5_t2-axial.series`. The name is made
from the headers alone, so it does not depend on the names or the order of the files.
"""

import hashlib
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.core.extras import require
from scripts.series.files import DicomFile, find_files, first_line, is_archive, is_dicom, is_dicomdir, walk
from scripts.series.geometry import SAME_DIRECTION, SAME_PLACE_MM, NotAStack, in_order, normal_of, stack_affine
from scripts.series.headers import TELLING_APART, Frame, Header, read_header

logger = logging.getLogger(__name__)

ENDING = ".series"
FEWEST_SLICES = 8
LONGEST_WORD = 40
SHOWN = 5  # unreadable files that are named one by one
known: dict[str, "Index"] = {}  # what was last found in each source


@dataclass(frozen=True)
class Series:
    """A stack of slices: a series, or a part of one.

    Attributes:
        name: made from the headers; the name of the case.
        uid: of the series.
        facts: headers as text, by keyword.
        frames: the slices, in order along the normal if they are a stack.
        fault: why they are none, or None.
        notes: lines on what was left out.
        stamp: of the files, when they were read.
    """

    name: str
    uid: str
    facts: dict[str, str]
    frames: tuple[Frame, ...] = ()
    fault: str | None = None
    notes: tuple[str, ...] = ()
    stamp: tuple = ()

    @property
    def files(self) -> list[DicomFile]:
        """The files in the order of the slices, each once."""
        return list(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def affine(self) -> np.ndarray:
        """See `scripts.series.geometry.stack_affine`."""
        first = self.frames[0]
        return stack_affine(np.array([f.position for f in self.frames]), first.orientation, first.spacing)

    def doubt(self) -> str | None:
        """Says why the series is read only if it is asked for, or returns None."""
        if self.facts["Modality"] != "MR":
            return f"modality {self.facts['Modality'] or 'unknown'}, expected MR"
        if len(self.frames) < FEWEST_SLICES:
            return f"{len(self.frames)} slice(s), expected {FEWEST_SLICES} or more: a localiser?"
        return None


@dataclass(frozen=True)
class Index:
    """What a source holds.

    Attributes:
        series: all of them, in the order of their names.
        lines: on files that can't be read.
    """

    series: list[Series] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def is_series(path: str | Path) -> bool:
    """Returns whether a path is that of a series in a source."""
    return Path(path).name.endswith(ENDING) and not Path(path).is_file()


def is_source(path: str | Path) -> bool:
    """Returns whether a path may hold DICOM: a DICOMDIR, an archive, a DICOM file, or a folder with one of these."""
    path = Path(path)
    if path.is_dir():
        return any(is_archive(file) or is_dicom(file) for file in walk(path))
    return path.is_file() and (is_archive(path) or is_dicom(path))


def path_of(source: str | Path, series: Series) -> str:
    """The path of a series."""
    return str(Path(source) / f"{series.name}{ENDING}")


def find_series(path: str | Path) -> Series:
    """Returns the series of a path.

    Args:
        path: `SOURCE/NAME.series`, or a source that holds exactly one series to read.

    Raises:
        UserError: there is no such series, or its slices are no stack.
    """
    path = Path(path)
    if is_series(path):
        series = named_series(path)
        if series is None:
            raise UserError(f"{path}: no such series in {path.parent}; list them with python -m scripts.dicom list")
    else:
        series, *others = choose(path)[0]
        if others:
            raise UserError(
                f"{path}: found {1 + len(others)} series ({series.name}, {others[0].name}, ...), expected one; add its "
                f"name: {path_of(path, series)}"
            )
    if series.fault:
        raise UserError(f"{path}: {series.fault}")
    return series


def named_series(path: str | Path) -> Series | None:
    """Returns the series of a path `SOURCE/NAME.series`, sound or not, or None if there is none."""
    path = Path(path)
    if not is_series(path) or not path.parent.exists():
        return None
    wanted = path.name[: -len(ENDING)]
    remembered = known.get(str(path.parent.absolute()), Index())
    found = next((series for series in remembered.series if series.name == wanted), None)
    if found and found.stamp == stamps({file.path for file in found.files}):
        return found
    return next((series for series in index_of(path.parent).series if series.name == wanted), None)


def choose(source: str | Path, wanted: str | int | None = None) -> tuple[list[Series], list[str]]:
    """Chooses the series of a source that are read.

    Args:
        source: see `scripts.series.files.find_files`.
        wanted: a UID, a number or a word of the description, which also chooses a series that is not MR or has few
            slices; None for every MR series with enough slices.

    Returns:
        The series, and a line for everything else that says why it is not read.

    Raises:
        UserError: there is nothing to read.
    """
    found = index_of(source)
    if wanted is not None:
        asked = [series for series in found.series if matches(series, wanted)]
        if not asked:
            names = ", ".join(series.name for series in found.series[:5]) or "none"
            raise UserError(
                f"{source}: no series has the UID or number {wanted!r} or that word in its description; found {names}"
            )
        reasons = {series.name: series.fault for series in asked}
    else:
        reasons = {series.name: series.doubt() or series.fault for series in found.series}
    lines = [f"{path_of(source, s)}: not read: {reasons[s.name]}" for s in found.series if reasons.get(s.name)]
    chosen = [series for series in found.series if reasons.get(series.name, "not asked for") is None]
    lines += [f"{path_of(source, series)}: {note}" for series in chosen for note in series.notes] + found.lines
    if not chosen:
        first = lines[0] if lines else f"{source}: found no DICOM file"
        more = f" (and {len(lines) - 1} more like it)" if len(lines) > 1 else ""
        raise UserError(f"{first}{more}; expected an MR series of {FEWEST_SLICES} slices or more")
    return chosen, lines


def matches(series: Series, wanted: str | int) -> bool:
    """Returns whether a series is the one that is asked for."""
    text = str(wanted).strip().casefold()
    described = f"{series.facts['SeriesDescription']} {series.facts['ProtocolName']}".casefold()
    return text in (series.uid, series.facts["SeriesNumber"], series.name.casefold()) or (
        not text.isdigit() and bool(text) and text in described
    )


def index_of(source: str | Path) -> Index:
    """Returns what a source holds. The result is kept until a file changes."""
    source = Path(source).absolute()
    require("pydicom", "dicom", str(source))
    if not source.exists():
        raise UserError(f"{source}: does not exist, expected a folder, a zip archive or a DICOMDIR; correct the path")
    files = walk(source if source.is_dir() else source.parent) if source.is_dir() or is_dicomdir(source) else [source]
    known[str(source)] = read_index(str(source), stamps(map(str, files)))
    return known[str(source)]


def stamps(files: Iterable[str]) -> tuple:
    """Numbers that change when one of the files changes."""
    return tuple((file, *stamp) for file in sorted(files) for stamp in [stamp_of(file)])


def stamp_of(file: str) -> tuple[int, int]:
    """Size and time of a file; zeros if it has gone."""
    try:
        found = os.lstat(file)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=8)
def read_index(source: str, stamp: tuple) -> Index:
    """Reads the headers of a source.

    Args:
        source: the path.
        stamp: of its files; after a change the result is another one.
    """
    files, lines = find_files(source)
    with ThreadPoolExecutor(4) as pool:
        headers = list(pool.map(header_or_reason, files))
    homeless = [f"{h.file}: {h.fault}" for h in headers if isinstance(h, Header) and not h.series]
    damaged = [header for header in headers if isinstance(header, str)] + homeless
    lines = lines + damaged[:SHOWN]
    if len(damaged) > SHOWN:
        lines.append(f"{source}: {len(damaged) - SHOWN} more file(s) can't be used")
    by_uid: dict[str, list[Header]] = {}
    for header in headers:
        if isinstance(header, Header) and header.series:
            by_uid.setdefault(header.series, []).append(header)
    stacks = [stack for members in by_uid.values() for stack in stacks_of(members)]
    stacks = [replace(stack, stamp=stamps({file.path for file in stack.files})) for stack in named_apart(stacks)]
    return Index(sorted(stacks, key=lambda series: series.name), lines)


def header_or_reason(file: DicomFile) -> Header | str:
    """The header of a file, or a line that says why it can't be read."""
    try:
        return read_header(file)
    except Exception as error:  # pydicom raises many kinds for a damaged file
        return f"{file}: not readable ({first_line(error)}); export it again"


def stacks_of(headers: Sequence[Header]) -> list[Series]:
    """The stacks of the files that have one series UID. Each is a volume of its own, or has the reason why it is none.

    Slices of other directions or sizes are other stacks, and so are images of one place that a header tells apart,
    such as two echoes.
    """
    facts = next((header.facts for header in headers if header.fault is None), headers[0].facts)
    whole = Series(name_of(facts), headers[0].series, facts)
    frames = [frame for header in headers for frame in header.frames]
    if not frames:
        reasons = dict.fromkeys(header.fault or "" for header in headers)
        files = [Frame(header.file, 1, "", (), (), (), (0, 0)) for header in headers]
        return [replace(whole, frames=tuple(files), fault="; ".join(reasons))]
    notes = []
    strangers = [header for header in headers if header.fault]
    if strangers:
        notes.append(f"left out {len(strangers)} file(s) of the series ({strangers[0].file}: {strangers[0].fault})")
    try:
        frames, copies = without_copies(frames)
    except NotAStack as error:
        return [replace(whole, frames=tuple(frames), fault=str(error))]
    if copies:
        notes.append(f"left out {len(copies)} file(s) that are copies ({copies[0].file})")
    groups = [part for group in by_grid(frames) for part in told_apart(group)]
    frames_of_reference = {header.facts["FrameOfReferenceUID"] for header in headers if header.frames}
    if len(frames_of_reference) > 1:
        return [replace(whole, frames=tuple(frames), fault="found several frames of reference, expected one")]
    found = [ordered(replace(whole, frames=tuple(group)), label) for group, label in groups]
    largest = max(len(series.frames) for series in found)
    if len(found) > 1:
        sizes = ", ".join(f"{len(series.frames)}" for series in found)
        notes.append(f"one of {len(found)} stacks of {sizes} slices that the series holds")
    return [replace(s, notes=tuple(notes)) if len(s.frames) == largest or not s.fault else s for s in found]


def ordered(series: Series, label: str) -> Series:
    """The series with its slices in order, or with the reason why they are no stack.

    Args:
        series: with slices of one direction and size.
        label: what tells it from other stacks of the series, for its name.
    """
    positions = np.array([frame.position for frame in series.frames])
    name = f"{series.name}-{label}" if label else series.name
    try:
        order = in_order(positions, series.frames[0].orientation)
        series = replace(series, name=name, frames=tuple(series.frames[i] for i in order))
        series.affine  # noqa: B018 (raises the reason)
    except NotAStack as error:
        return replace(series, name=name, fault=str(error))
    return series


def without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Drops files that are copies of another one.

    Raises:
        NotAStack: two files have the UID of one instance and different contents.
    """
    kept: dict[tuple[str, int], Frame] = {}
    copies = []
    for frame in frames:
        other = kept.setdefault((frame.uid, frame.number), frame)
        if other is not frame:
            if other.file.read() != frame.file.read():
                raise NotAStack(f"{frame.file} and {other.file} differ, but have the same SOPInstanceUID")
            copies.append(frame)
    return list(kept.values()), copies


def by_grid(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Slices of one direction, size and spacing; the largest group comes first."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            first = group[0]
            same = np.allclose(first.orientation, frame.orientation, rtol=0, atol=SAME_DIRECTION)
            if same and first.size == frame.size and np.allclose(first.spacing, frame.spacing, rtol=1e-3):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return sorted(groups, key=len, reverse=True)


def told_apart(frames: Sequence[Frame]) -> list[tuple[list[Frame], str]]:
    """Divides slices of which several are at one place by a header that tells these apart, if there is one.

    Returns:
        Groups of slices, each with a word for its name.
    """
    if all_apart(frames):
        return [(list(frames), "")]
    for index, word in enumerate(TELLING_APART):
        groups: dict[str, list[Frame]] = {}
        for frame in frames:
            groups.setdefault(frame.tags[index], []).append(frame)
        if len(groups) > 1 and all(all_apart(group) for group in groups.values()):
            short = "echo" if word.startswith("Echo") else word.lower()
            return [
                (groups[value], f"{short}{number}") for number, value in enumerate(sorted(groups, key=in_size), start=1)
            ]
    return [(list(frames), "")]


def in_size(text: str) -> tuple[float, str]:
    """A key that sorts numbers by their size, and other texts before them."""
    try:
        return float(text), text
    except ValueError:
        return -math.inf, text


def all_apart(frames: Sequence[Frame]) -> bool:
    """Returns whether no two slices are at the same place along the normal."""
    try:
        places = np.sort(np.array([frame.position for frame in frames]) @ normal_of(frames[0].orientation))
    except NotAStack:
        return True
    return bool((np.diff(places) > SAME_PLACE_MM).all())


def name_of(facts: dict[str, str]) -> str:
    """The name of a series, from patient, date, number and description."""
    study = hashlib.sha256(facts["StudyInstanceUID"].encode()).hexdigest()[:8]
    patient = word_of(facts["PatientID"]) or f"study-{study}"
    date = facts["StudyDate"] or facts["SeriesDate"]
    date = date if re.fullmatch(r"\d{8}", date) else "undated"
    number = re.sub(r"\D", "", facts["SeriesNumber"]) or "0"
    described = word_of(facts["SeriesDescription"] or facts["ProtocolName"])
    return f"{patient}_{date}_s{number}" + (f"_{described}" if described else "")


def word_of(text: str) -> str:
    """A text as a part of a file's name: letters and digits, with - in place of everything else."""
    return re.sub(r"[\W_]+", "-", text)[:LONGEST_WORD].strip("-")


def named_apart(stacks: Sequence[Series]) -> list[Series]:
    """The series, those of equal names with a few digits of their UID behind it."""

    def apart(stack: Series, key: Callable[[Series], str]) -> Series:
        digits = hashlib.sha256(key(stack).encode()).hexdigest()[:6]
        same = [other for other in stacks if other.name == stack.name]
        return replace(stack, name=f"{stack.name}-{digits}") if len(same) > 1 else stack

    stacks = [apart(stack, lambda s: s.uid) for stack in stacks]
    return [apart(stack, lambda s: f"{s.uid} {s.frames[0]}") for stack in stacks]
