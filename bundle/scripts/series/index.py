"""Sorts the DICOM files of a source into series and stacks, gives each a name, and chooses those to be read.

The path of a series is that of its source and its name: `export/PAT01_20260301_s5_t2-axial.series`. The name is made
from the headers alone, so it does not depend on the names or the order of the files.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from scripts.core.errors import UserError
from scripts.core.extras import require
from scripts.series.files import DicomFile, find_files, first_line, is_archive, is_dicom, is_dicomdir, walk
from scripts.series.headers import Header, read_header
from scripts.series.sorting import FEWEST_SLICES, Series, stacks_of, word_of

logger = logging.getLogger(__name__)

ENDING = ".series"
SHOWN = 5  # unreadable files that are named one by one
known: dict[str, "Index"] = {}  # what was last found in each source


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
    """Chooses the series of a source that are read, as `sort_out` does.

    Raises:
        UserError: there is nothing to read.
    """
    chosen, lines = sort_out(source, wanted)
    if not chosen:
        first = lines[0] if lines else f"{source}: found no DICOM file"
        more = f" (and {len(lines) - 1} more; python -m scripts.dicom list names them)" if len(lines) > 1 else ""
        raise UserError(f"{first}{more}; expected an MR series of {FEWEST_SLICES} slices or more")
    return chosen, lines


def sort_out(source: str | Path, wanted: str | int | None = None) -> tuple[list[Series], list[str]]:
    """Tells the series of a source that are read from the others.

    Args:
        source: see `scripts.series.files.find_files`.
        wanted: a UID, a number or a word of the description, which also chooses a series that is not MR or has few
            slices; None for every MR series with enough slices.

    Returns:
        The series, and a line for everything else that says why it is not read.

    Raises:
        UserError: there is no series that was asked for.
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
    return chosen, lines + [f"{path_of(source, s)}: {note}" for s in chosen for note in s.notes] + found.lines


def matches(series: Series, wanted: str | int) -> bool:
    """Returns whether a series is the one that is asked for, by its UID, number or name, or by its description."""
    text = str(wanted).strip().casefold()
    descriptions = [series.facts["SeriesDescription"], series.facts["ProtocolName"]]
    described = " ".join([*descriptions, *map(word_of, descriptions)]).casefold()  # as in the header, as in the name
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
    more = [f"{source}: {len(damaged) - SHOWN} more file(s) can't be used"] if len(damaged) > SHOWN else []
    lines = [*damaged[:SHOWN], *more, *lines]
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


def named_apart(stacks: Sequence[Series]) -> list[Series]:
    """The series, those of equal names with a few digits of their UID behind it, or of that of their first image."""
    for key in (lambda stack: stack.uid, lambda stack: f"{stack.uid} {stack.frames[0].uid} {stack.frames[0].number}"):
        count = Counter(stack.name for stack in stacks)
        digits = [hashlib.sha256(key(stack).encode()).hexdigest()[:6] for stack in stacks]
        names = [f"{s.name}-{own}" if count[s.name] > 1 else s.name for s, own in zip(stacks, digits)]
        stacks = [replace(stack, name=name) for stack, name in zip(stacks, names)]
    return list(stacks)
