"""The files of a folder, and what is wrong with a folder that has none."""

from collections.abc import Iterable
from pathlib import Path

from scripts.core.errors import UserError
from scripts.series.files import is_dicom


def existing_folder(path: str | Path, knob: str = "dataset_dir") -> Path:
    """Returns the path of a folder, and refuses anything else."""
    root = Path(path)
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise UserError(f"{root}: {knob} {found}, expected a folder; name yours with --{knob} DIR")
    return root


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def nifti_files(roots: Iterable[Path]) -> list[Path]:
    """Finds the NIfTI files in folders and in everything below them, but not in hidden folders: incomplete results.

    A link to nothing counts: it is an error later.
    """
    found = {  # a set, because one folder may be inside another
        path
        for root in roots
        for path in root.rglob("*")
        if is_nifti(path) and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
    return sorted(path for path in found if path.is_file() or not path.exists())


def folders_named(root: Path, prefix: str) -> list[Path]:
    """Finds folders whose name begins with `prefix`, at most two levels down (unzipped archives add a level)."""
    candidates = [root, *root.glob("*"), *root.glob("*/*")]
    return sorted(path for path in candidates if path.is_dir() and path.name.startswith(prefix))


def reason_nothing_found(root: Path) -> str:
    """Says why no image was found in a folder: it contains DICOM files, is empty, or has an unknown layout."""
    inside = [path for _, path in zip(range(200), root.rglob("*")) if path.is_file()]
    if any(is_dicom(path) for path in inside):
        return "contains DICOM files, but not in imagesTr with their labels in labelsTr"
    return "contains no files" if not inside else "contains no images in a known layout"
