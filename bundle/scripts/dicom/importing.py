"""Turns SEG and RTSTRUCT files of any program into label maps on the grid of their series, as labels to train on."""

import gzip
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts.core.errors import UserError
from scripts.core.files import atomic_write
from scripts.data.anonymise import secret_word
from scripts.dicom.about import About, about_bundle
from scripts.dicom.commands import bundle_classes
from scripts.dicom.identity import coded_uid
from scripts.dicom.masks import read_masks
from scripts.dicom.reading import Structure, StructureFile, open_structures
from scripts.run.knobs import check_class_names
from scripts.series.files import DicomFile, find_files
from scripts.series.headers import open_dataset
from scripts.series.index import Series, find_series, index_of, is_series, path_of
from scripts.series.reader import read_stack
from scripts.series.stack import nifti_image

DESCRIPTION = b"label map, research use only"


def import_structures(
    files: str,
    series: str,
    output_dir: str,
    class_names: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    segments: str | None = None,
    anonymise: bool | str = False,
    uid_root: str | None = None,
) -> None:
    """Writes DICOM SEG and RTSTRUCT files, of any program, as NIfTI label maps on the grid of their series.

    A file belongs to the series whose images it names, or else to the only one with its coordinates. Its label map has
    the name of the series: `<series>.nii.gz`. A file that can't be used is named in one line, all others are written,
    and the exit status is 1. Where structures overlap, the later class wins; the outline of the patient comes first.

    Args:
        files: a SEG or an RTSTRUCT, or a folder of them.
        series: a folder, a zip archive or a DICOMDIR with the series, or `SOURCE/NAME.series` for one of them.
        output_dir: folder of the label maps.
        class_names: names of the values 0, 1, ..., background first; those of this bundle if not given.
        names: the class of a structure that is called otherwise, such as {"CTV_Prostate":"prostate"}. A class without a
            name in it is found by its own name, in any case, or by its code.
        segments: a JSON file with the codes of the classes, in place of `configs/segments.json`.
        anonymise: the option that the files were exported with, if their UIDs were replaced.
        uid_root: the same.
    """
    about = about_bundle(segments=segments, word=secret_word(anonymise), uid_root=uid_root)
    classes = bundle_classes() if class_names is None else check_class_names(class_names)
    others = check_names(names or {}, classes)
    sources, known = known_series(series)
    written: dict[Path, Path] = {}
    problems = []
    for path in structure_files(files):
        try:
            file = open_structures(path)
            one, by_images = series_of(file, known, about, series)
            target = Path(output_dir) / f"{one.name}.nii.gz"
            if target in written:
                raise UserError(
                    f"{path}: of the same series as {written[target]}; expected one file for each, name it with --files"
                )
            for line in write_labels(file, path_of(sources, one), target, classes, others, about):
                print(line)
            if not by_images:
                print(f"{path}: its images are not in {series}; placed by their frame of reference on {one.name}")
            written[target] = path
        except UserError as error:
            problems.append(str(error))
    for line in problems[:-1]:
        print(line, file=sys.stderr)
    if problems:
        raise UserError(problems[-1])


def check_names(names: Mapping[str, str], classes: Sequence[str]) -> dict[str, str]:
    """Returns the classes of structures by the key of their names."""
    if not isinstance(names, Mapping) or not set(map(str, names.values())) <= set(classes[1:]):
        raise UserError(
            f"--names {names}: expected names of structures with their class, one of {', '.join(classes[1:])}, such as "
            f'\'{{"PTV_1":"{classes[-1]}"}}\''
        )
    return {key_of(str(name)): str(value) for name, value in names.items()}


def structure_files(files: str | Path) -> list[Path]:
    """The SEG and RTSTRUCT files of a folder, or the file itself."""
    path = Path(files)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: does not exist, expected a SEG, an RTSTRUCT or a folder of them")
    found = [Path(file.path) for file in find_files(path)[0] if not file.member and is_structure(file.path)]
    if not found:
        raise UserError(f"{path}: found no SEG and no RTSTRUCT; name a file with --files")
    return found


def is_structure(path: str | Path) -> bool:
    """Returns whether a DICOM file has the modality of segmentations."""
    try:
        with DicomFile(str(path)).open() as stream:
            found = open_dataset(stream, stop_before_pixels=True, specific_tags=["Modality"])
    except Exception:  # pydicom raises many kinds; what is damaged is no image either
        return False
    return found.get("Modality") in ("SEG", "RTSTRUCT")


def known_series(source: str | Path) -> tuple[Path, list[Series]]:
    """The source and its series."""
    path = Path(source)
    if is_series(path):
        return path.parent, [find_series(path)]
    return path, [series for series in index_of(path).series if series.facts["Modality"] not in ("SEG", "RTSTRUCT")]


def series_of(file: StructureFile, known: Sequence[Series], about: About, source: str) -> tuple[Series, bool]:
    """The series that a file belongs to, and whether the file names images of it.

    Raises:
        UserError: there is none, or it may be one of several.
    """

    def shown(uid: str) -> str:
        return uid if about.word is None else coded_uid(uid, about)

    named = [series for series in known if any(shown(frame.uid) in file.images for frame in series.frames)]
    found = named
    if not named:
        found = [series for series in known if shown(series.facts["FrameOfReferenceUID"]) in file.frames_of_reference]
        found = [series for series in found if not series.fault] or found  # a plan and a dose have the same one
    if len(found) == 1:
        return found[0], bool(named)
    if not found:
        raise UserError(
            f"{file.path}: no series in {source} has its images or its frame of reference; add its series there"
        )
    raise UserError(
        f"{file.path}: fits {len(found)} series in {source} ({found[0].name}, {found[1].name}, ...), expected one; say "
        f"--series {path_of(source, found[0])}"
    )


def write_labels(
    file: StructureFile,
    series: str,
    target: Path,
    class_names: Sequence[str],
    names: Mapping[str, str],
    about: About,
) -> list[str]:
    """Writes the label map of a file.

    Returns:
        Lines that say what was written and what was left out.

    Raises:
        UserError: no structure is a class, or none of them has a voxel.
    """
    stack = read_stack(series)
    value_of = {one.number: class_of(one, class_names, names, about) for one in file.structures}
    wanted = {number for number, value in value_of.items() if value}
    others = [one.name or f"number {one.number}" for one in file.structures if not value_of[one.number]]
    if not wanted:
        raise UserError(
            f"{file.path}: no structure is a class; found {', '.join(others[:20]) or 'none'}; say which with --names, "
            f'such as \'{{"{(others or ["PTV"])[0]}":"{class_names[-1]}"}}\''
        )
    masks = read_masks(file, stack, wanted)
    outer = about.outer_class(list(class_names))
    labels = np.zeros(next(iter(masks.values())).voxels.shape, np.uint8)
    for number in sorted(wanted, key=lambda number: (value_of[number] != outer, value_of[number])):
        labels[masks[number].voxels] = value_of[number]
    if not labels.any():
        raise UserError(f"{file.path}: no voxel of {series} is in its structures; is it the right series?")
    with atomic_write(target) as partial:
        save(stack.to_volume(labels), stack.nifti_affine, partial)
    found = ", ".join(class_names[value] for value in np.unique(labels) if value)
    lines = [f"{target}: {found}"]
    if others:
        lines.append(f"{file.path}: no class: {', '.join(others)}")
    kind = "voxel(s)" if file.is_segmentation else "contour(s)"
    lines += [
        f"{file.path}: {one.name}: {masks[one.number].beside} {kind} lie on no slice of the series, left out"
        for one in file.structures
        if one.number in masks and masks[one.number].beside
    ]
    lines += [
        f"{file.path}: {one.name}: {masks[one.number].gaps} slices between its first and its last one have no contour, "
        "and are empty in the label map; draw them, or read the file with another series"
        for one in file.structures
        if one.number in masks and masks[one.number].gaps
    ]
    return lines


def class_of(structure: Structure, class_names: Sequence[str], names: Mapping[str, str], about: About) -> int:
    """The class of a structure, 0 for none: by --names, by its name, by its code, or as the outline of the patient."""
    key = key_of(structure.name)
    if key in names:
        return list(class_names).index(names[key])
    others = [(value, name) for value, name in enumerate(class_names) if value and name not in names.values()]
    by_name = {key_of(name): value for value, name in others}
    if key in by_name:
        return by_name[key]
    known = ((value, about.segment(name)) for value, name in others)
    by_code = {segment.code[0]: value for value, segment in known if segment.known}
    if structure.code in by_code:
        return by_code[structure.code]
    outer = about.outer_class(list(class_names)) if structure.is_outer else None
    return outer if outer in dict(others) else 0


def key_of(name: str) -> str:
    """A name without regard to case, blanks, - and _."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def save(labels: np.ndarray, affine: np.ndarray, file: Path) -> None:
    """Writes a label map as compressed NIfTI; the same labels give the same bytes."""
    image = nifti_image(labels, affine)
    image.header["descrip"] = DESCRIPTION
    file.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
