"""A page to look at a case in the browser: image and label map in three planes and 3D, drawn by NiiVue.

NiiVue is a program in JavaScript (npm package `@niivue/niivue`) that the project does not bring along. Its script goes
into each page, so that a page is one file that needs no network. The page's policy allows this script and its own by
their hashes, and nothing else: no request, no other script, no style.
"""

import base64
import gzip
import hashlib
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure

from scripts.core.errors import UserError
from scripts.core.files import atomic_write, read_json
from scripts.core.palette import colour
from scripts.data.slices import is_sliced
from scripts.report.overlay import most_informative_slices, overlay
from scripts.report.page import environment

logger = logging.getLogger(__name__)

VERSION = "0.69.0"  # that the page was made for
INSTALL = f"install it with npm install --no-save --prefix . @niivue/niivue@{VERSION}"
PLACE = Path("node_modules/@niivue/niivue/dist/niivue.umd.js")
LARGEST_SCRIPT = 2**24  # bytes
LARGEST_VOLUME = 2**24  # voxels of a page; larger volumes are thinned
RANGE = (0, 1, 99.5, 99.9)  # percentiles of the image: the lowest value, black, white, the highest value
STEPS = 127  # between the lowest and the highest value; twice as many make a page a sixth larger and look the same
LARGE = 0.1  # share of the volume; a class that fills more of it is off at first, because it hides the others in 3D
VIEWS = ("all", "axial", "coronal", "sagittal", "3D")
TEMPLATES = Path(__file__).parent / "templates"
NO_END = re.compile(r"</script|<!--|\0", re.IGNORECASE)  # what would end a script early, or change it


@dataclass(frozen=True)
class NiiVue:
    """The script that draws, and where it comes from."""

    text: str
    version: str


def find(niivue: bool | str | None) -> NiiVue | None:
    """NiiVue as a knob names it.

    Args:
        niivue: path of `niivue.umd.js`; None or True looks for it in `node_modules` of the working folder, of the
            bundle and of the folder above the bundle; False is none.

    Returns:
        The script, or None where none was asked for or none is installed.

    Raises:
        UserError: the file is not NiiVue's script.
    """
    if niivue is False:
        return None
    if isinstance(niivue, str):
        return read(Path(niivue))
    bundle = Path(__file__).parents[2]
    for folder in (Path(), bundle, bundle.parent):
        if (folder / PLACE).is_file():
            return read(folder / PLACE)
    if niivue:
        logger.warning(f"NiiVue is not installed here, so there are no pages to look at cases; {INSTALL}")
    return None


def read(file: Path) -> NiiVue:
    """Reads NiiVue's script, with distrust: it will be part of a page."""
    expected = f"expected niivue.umd.js of the npm package @niivue/niivue {VERSION}; {INSTALL}"
    if not file.is_file():
        raise UserError(f"{file}: no such file, {expected}")
    if file.stat().st_size > LARGEST_SCRIPT:
        raise UserError(f"{file}: found {file.stat().st_size:,} bytes, {expected}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: found no text, {expected}") from error
    if not re.search(r"\.niivue\s*=", text):
        raise UserError(f"{file}: found another file, {expected}")
    if found := NO_END.search(text):
        raise UserError(f"{file}: found {found.group()!r} in it, which can't be in a page, {expected}")
    return NiiVue(text, version_of(file.absolute().parent.with_name("package.json")))


def version_of(package: Path) -> str:
    """NiiVue's version by the description of its package, for the licences on the page."""
    content = read_json(package) if package.is_file() else {}
    return str(content.get("version")) if content.get("name") == "@niivue/niivue" else "of unknown version"


def has_planes(path: str | Path, shape: Sequence[int]) -> bool:
    """Whether a scan is a volume. Slices have no page: their files don't say where in the patient they lie."""
    return not is_sliced(path) and min(shape) > 1


def write(
    file: Path,
    volume: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    class_names: Sequence[str],
    title: str,
    niivue: NiiVue,
    picture: Path | None = None,
) -> None:
    """Writes the page of a case.

    Args:
        file: of the page.
        volume: the image, on any grid, of shape (x, y, z).
        labels: label map on the same grid.
        affine: voxel to RAS millimetres, as NIfTI has it.
        class_names: names of the values 0, 1, ...
        title: of the page, such as the name of the case. Nothing else on the page says whose image it is.
        niivue: the script that draws.
        picture: PNG for browsers that can't draw the page; made here if there is none.
    """
    drawn = picture.read_bytes() if picture else png(overlay(volume, {"labels": labels}, affine, class_names))
    text = page(volume, labels, affine, class_names, title, niivue, drawn)
    with atomic_write(file, len(text)) as partial:
        partial.write_text(text, encoding="utf-8")


def page(
    volume: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    class_names: Sequence[str],
    title: str,
    niivue: NiiVue,
    picture: bytes,
) -> str:
    """The page as text; see `write`."""
    style, script, licences = (
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("view.css", "view.js", "view_licences.txt")
    )
    steps = thinning(volume.shape)
    volume, labels = (array[tuple(slice(None, None, step) for step in steps)] for array in (volume, labels))
    affine = affine @ np.diag([*steps, 1])
    image, (low, high), window = in_steps(volume)
    note = f"Image values from {low:.5g} to {high:.5g} in {STEPS + 1} steps: a picture, not the image itself."
    if max(steps) > 1:
        note += f" It has more voxels: here is one of {' x '.join(map(str, steps))}."
    classes = [
        {"value": value, "name": name, "colour": colour(value), "shown": bool((labels == value).mean() <= LARGE)}
        for value, name in list(enumerate(class_names))[1:]
    ]
    style += "".join(f".c{item['value']} {{ background: {item['colour']}; }}\n" for item in classes)
    return environment.get_template("view.html").render(
        title=title,
        policy=policy([script, niivue.text], style),
        style=style,
        script=script,
        niivue=niivue.text,
        licences=licences.format(version=niivue.version),
        views=VIEWS,
        classes=classes,
        note=note,
        picture=base64.b64encode(picture).decode(),
        data={
            "image": nifti(image, affine, window),
            "labels": nifti(labels, affine, (0, len(class_names) - 1)),
            "cross": nib.affines.apply_affine(affine, most_informative_slices(labels)).tolist(),
            "classes": classes,
            "background": class_names[0],
        },
    )


def policy(scripts: Sequence[str], style: str) -> str:
    """The Content-Security-Policy of a page: its own scripts and its own style by their hashes, and nothing else."""
    allowed = " ".join(map(source_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def thinning(shape: Sequence[int]) -> list[int]:
    """Along each axis, one voxel of how many is shown: a browser on a small machine can hold only so much.

    The axis with most voxels is thinned first, so that thick slices are kept as long as possible.
    """
    steps = np.ones(3, int)
    while np.prod(left := np.ceil(shape / steps)) > LARGEST_VOLUME:
        steps[np.argmax(left)] += 1
    return steps.tolist()


def in_steps(volume: np.ndarray) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """The image in whole steps from 0 to `STEPS`; which values these are; and the steps that are black and white."""
    finite = volume[np.isfinite(volume)]
    low, black, white, high = map(float, np.percentile(finite, RANGE)) if finite.size else (0.0, 0.0, 0.0, 0.0)
    scale = STEPS / (high - low) if high > low else 0.0
    steps = np.rint((np.clip(np.nan_to_num(volume, nan=low), low, high) - low) * scale).astype(np.uint8)
    return steps, (low, high), ((black - low) * scale, (white - low) * scale)


def nifti(volume: np.ndarray, affine: np.ndarray, shown: tuple[float, float]) -> str:
    """A NIfTI file of one byte a voxel, gzipped and in base64. Its header is new: nothing in it says whose image it is.

    Args:
        volume: labels, or an image in steps; uint8.
        affine: voxel to RAS millimetres.
        shown: the values that are black and white at first.
    """
    image = nib.Nifti1Image(volume, affine)
    image.header["cal_min"], image.header["cal_max"] = shown
    return base64.b64encode(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)).decode()


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, format="png")
    return buffer.getvalue()
