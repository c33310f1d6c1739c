"""Finds images that are DICOM series. `layouts.py` uses this module."""

import logging
from pathlib import Path

from scripts.core.errors import UserError
from scripts.series.index import choose, is_source, path_of
from scripts.series.sorting import Series

logger = logging.getLogger(__name__)


def find_series_images(source: Path, series: str | int | None = None) -> list[Path]:
    """Finds the DICOM series of a source that are images."""
    return [Path(path_of(source, one)) for one in chosen_series(source, series)]


def chosen_series(source: Path, series: str | int | None = None) -> list[Series]:
    """Chooses the series of a source that are images, and logs why the others are none."""
    chosen, lines = choose(source, series)
    for line in lines:
        logger.info(line)
    return chosen


def refuse_series(
    series: str | int | None, source: str | Path, found: str = "has images that are no DICOM series"
) -> None:
    """Refuses a choice among series where there is none.

    Args:
        series: what was asked for; None for nothing.
        source: that was given.
        found: what it has in place of series.
    """
    if series is not None:
        raise UserError(f"series is {series!r}, but {source} {found}; leave --series out")


def series_by_label(folder: Path, labels: dict[str, Path], wanted: str | int | None = None) -> dict[str, Path]:
    """Returns the DICOM series of a folder by the name of their label: that of the series, or of its own folder.

    Args:
        folder: of the series.
        labels: by their names. A series may have none.
        wanted: chooses among the series, see `scripts.series.index.choose`.
    """
    if not is_source(folder):
        return {}
    found: dict[str, Path] = {}
    for series in chosen_series(folder, wanted):
        folders = {Path(file.path).parent for file in series.files}
        own = next(iter(folders)).name if len(folders) == 1 else ""
        name = own if own in labels and series.name not in labels else series.name
        if name in found:
            raise UserError(
                f"{folder / own}: holds several series, expected one for the label {labels[name]}; move one"
            )
        found[name] = Path(path_of(folder, series))
    return found
