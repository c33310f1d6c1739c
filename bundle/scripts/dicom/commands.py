"""Lists the series of an export, and writes a label map as DICOM for a series.

python -m scripts.dicom list --series DIR
python -m scripts.dicom export --labels FILE --series DIR --output_dir DIR --formats "['dicom_seg','rtstruct']"
python -m scripts.dicom import --files DIR --series DIR --output_dir DIR
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.core.files import read_json
from scripts.core.paths import METADATA
from scripts.data.anonymise import patient_code, secret_word
from scripts.data.label_maps import read_labels
from scripts.data.names import case_name
from scripts.dicom.about import About, about_bundle
from scripts.dicom.identity import patient_of
from scripts.dicom.segmentation import write_segmentation
from scripts.dicom.structures import write_structures
from scripts.run.knobs import check_class_names
from scripts.series.index import path_of, sort_out
from scripts.series.reader import read_stack
from scripts.series.sorting import FEWEST_SLICES

ENDINGS = {"dicom_seg": "_seg.dcm", "dicom_labelmap": "_labelmap.dcm", "rtstruct": "_rtstruct.dcm"}
WRITERS: dict[str, Callable] = {
    "dicom_seg": write_segmentation,
    "dicom_labelmap": partial(write_segmentation, labelmap=True),
    "rtstruct": write_structures,
}


def list_series(series: str) -> None:
    """Lists the series of a folder, a zip archive or a DICOMDIR that can be read, and why others can't.

    Args:
        series: the source.
    """
    found, lines = sort_out(series)
    for one in found:
        print(path_of(series, one))
    for line in lines:
        print(line)
    if not found:
        raise UserError(f"{series}: found nothing to read; expected an MR series of {FEWEST_SLICES} slices or more")


def export(
    labels: str,
    series: str,
    output_dir: str,
    formats: Sequence[str] = ("dicom_seg", "rtstruct"),
    class_names: Sequence[str] | None = None,
    segments: str | None = None,
    made_by: str = "AUTOMATIC",
    model: str | None = None,
    version: str | None = None,
    uid_root: str | None = None,
    anonymise: bool | str = False,
) -> None:
    """Writes a label map as DICOM SEG or RTSTRUCT for the series that it was made on. Research use only.

    The same input gives the same bytes: UIDs are made from it, and the dates are those of the images.

    Args:
        labels: a NIfTI label map on the grid of the series, in any order of its axes.
        series: a folder, a zip archive or a DICOMDIR with one series, or `SOURCE/NAME.series` for one of several.
        output_dir: folder of the files.
        formats: `dicom_seg`, one mask for each class; `dicom_labelmap`, one map of all, smaller and newer; `rtstruct`.
        class_names: names of the values 0, 1, ..., background first; those of this bundle if not given.
        segments: a JSON file with the codes of the classes, in place of `configs/segments.json`.
        made_by: AUTOMATIC, SEMIAUTOMATIC or MANUAL, as the labels were made.
        model: name of what made the labels, in place of this bundle's.
        version: of it.
        uid_root: root of the UIDs, if you have one.
        anonymise: replaces names, numbers, dates and UIDs by codes. With a secret word nobody can guess them.
    """
    word = secret_word(anonymise)
    about = about_bundle("", uid_root, word, made_by, segments, model, version)
    names = bundle_classes() if class_names is None else check_class_names(class_names)
    chosen = check_formats(formats)
    values, affine = read_labels(labels, names)
    stack = read_stack(series)
    frames = stack.to_frames(values, affine, str(labels))
    if not frames.any():
        raise UserError(f"{labels}: every voxel is background, expected a class; DICOM has no empty segmentation")
    case = re.sub("_seg$", "", case_name(labels))
    if word is not None:
        series_code = patient_code(str(stack.headers[0].get("SeriesInstanceUID", "")), word)[1:]
        case = f"{patient_code(patient_of(stack.headers[0]), word)}-{series_code}"  # a patient may have several
    for line in unknown_classes(frames, names, about):
        print(line)
    for format in chosen:
        file = Path(output_dir) / f"{case}{ENDINGS[format]}"
        written = WRITERS[format](frames, stack, names, file, about)
        print(f"{file}: {', '.join(written)}")


def check_formats(formats: Sequence[str]) -> list[str]:
    """Returns the formats, each once."""
    given = [formats] if isinstance(formats, str) else list(formats)
    unknown = [str(format) for format in given if format not in ENDINGS]
    if unknown or not given:
        raise UserError(
            f"--formats: found {', '.join(unknown) or 'nothing'}, expected some of {', '.join(ENDINGS)}, such as "
            "\"['dicom_seg','rtstruct']\""
        )
    return list(dict.fromkeys(given))


def bundle_classes() -> list[str]:
    """The names of this bundle's classes."""
    return list(read_json(METADATA)["network_data_format"]["outputs"]["pred"]["channel_def"].values())


def unknown_classes(frames: np.ndarray, class_names: Sequence[str], about: About) -> list[str]:
    """A line for every class that the file of codes does not name."""
    present = (class_names[value] for value in np.unique(frames) if value)
    return [
        f'class "{name}" has no code in the file of codes and is written as "{about.segment(name).code[2]}"; name it '
        "with --segments"
        for name in present
        if not about.segment(name).known
    ]
