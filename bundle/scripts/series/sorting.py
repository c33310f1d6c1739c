"""The stacks of slices that the files of one series are: each is a volume, or has the reason why it is none.

`index.py` uses this module.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.series.files import DicomFile
from scripts.series.geometry import SAME_DIRECTION, SAME_PLACE_MM, NotAStackError, in_order, normal_of, stack_affine
from scripts.series.headers import TELLING_APART, Frame, Header

FEWEST_SLICES = 8
LONGEST_WORD = 40


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
    except NotAStackError as error:
        return [replace(whole, frames=tuple(frames), fault=str(error))]
    if copies:
        notes.append(f"left out {len(copies)} file(s) that are copies ({copies[0]})")
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
    except NotAStackError as error:
        return replace(series, name=name, fault=str(error))
    return series


def without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[DicomFile]]:
    """Drops files that are copies of another one. Returns the frames of the others, and these files.

    Raises:
        NotAStackError: two files have the UID of one instance and different contents.
    """
    kept: dict[tuple[str, int], Frame] = {}
    copies: dict[DicomFile, DicomFile] = {}  # each with the file that it is a copy of
    for frame in frames:
        other = kept.setdefault((frame.uid, frame.number), frame)
        if other is not frame and copies.get(frame.file) != other.file:
            if other.file.read() != frame.file.read():
                raise NotAStackError(f"{frame.file} and {other.file} differ, but have the same SOPInstanceUID")
            copies[frame.file] = other.file
    return list(kept.values()), list(copies)


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
    except NotAStackError:
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
