"""Packages that only a part of the bundle needs. Who lacks one is told in one line what to install."""

import importlib
from types import ModuleType

from scripts.core.errors import UserError

EXTRAS = {  # of pyproject.toml, without the versions
    "dicom": "pydicom highdicom python-gdcm contourpy",
    "openvino": "openvino",
    "int8": "openvino nncf",
}


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports a package of an extra.

    Args:
        module: its name.
        extra: the extra of `pyproject.toml` that it belongs to.
        purpose: what it is needed for, the beginning of the message.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose}: the package {error.name or module} is missing, expected those of the extra {extra}; "
            f"pip install {EXTRAS[extra]}"
        ) from error
