"""What the name of a file tells: the case, the patient and the week, the slice, the date of the study."""

import re
from collections.abc import Mapping
from pathlib import Path

from scripts.core.errors import UserError

SCAN = re.compile(r"(?:case_|c|seg_)(\d+)_week_?(\d+)", re.IGNORECASE)  # seg_: HipMRI's masks of slices
SLICE = re.compile(r"_slice_(\d+)(?=_|$)", re.IGNORECASE)
SERIES = re.compile(r"(?P<patient>.+)_(?P<date>\d{8}|undated)_s(?P<number>\d+)")  # see scripts.series.index.name_of
MAPS = ("_seg", "_pred", "_label", "_mask")  # ends of names of label maps
DOUBT = "_doubt"
AS_NIFTI = "_image"  # end of the name of a series that an inference has written as NIfTI
CODE = re.compile(r"P[0-9a-f]{8}-[0-9a-f]{8}")  # of a series, see scripts.data.anonymise.case_code


def case_name(path: str | Path) -> str:
    """Returns the file name without folder and extension; for a stack of slices also without `_slice_*`."""
    name = re.sub(r"\.(nii(\.gz)?|png|tiff?|series)$", "", Path(path).name, flags=re.IGNORECASE)
    return re.sub(r"(_slice)?_\*", "", name)


def scan_key(path: str | Path) -> tuple[str, int | None]:
    """Returns patient and week from the file name. A name made from the headers of a series has the patient; any other
    name without patient and week counts as a patient of its own."""
    name = case_name(path)
    found = SCAN.search(name)
    if found:
        return found[1].zfill(3), int(found[2])
    made = SERIES.match(name)
    return (made["patient"] if made else name), None


def scan_key_or_refuse(path: Path) -> tuple[str, int | None]:
    """Returns patient and week from the file name, and refuses a name without them."""
    patient, week = scan_key(path)
    if week is None:
        raise UserError(f"{path}: expected a name like Case_004_Week0_LFOV.nii.gz; rename it or move it away")
    return patient, week


def slice_number(path: str | Path) -> int | None:
    """Returns the number of a slice that is a case of its own, or None for a volume or a stack."""
    found = SLICE.search(case_name(path))
    return int(found[1]) if found else None


def patient_of(entry: Mapping) -> str:
    """Returns the patient whom an entry names, who may be number 0, or else that in the name of its image."""
    named = entry.get("patient")
    return scan_key(entry["image"])[0] if named in (None, "") else str(named)


def is_written_series(path: str | Path) -> bool:
    """Whether a file is by its name a series that an inference has written as NIfTI, under its name or its code."""
    name = case_name(path)
    return name.endswith(AS_NIFTI) and bool(SERIES.match(name) or CODE.fullmatch(name.removesuffix(AS_NIFTI)))


def scan_date(path: str | Path) -> str | None:
    """Returns the date of the study, as YYYYMMDD, if the name is made from the headers of a series and has one."""
    made = SERIES.match(case_name(path))
    return made["date"] if made and made["date"].isdigit() else None
