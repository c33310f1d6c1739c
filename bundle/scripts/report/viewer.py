"""A page to look at a case in the browser: image and label map in three planes and 3D, drawn by NiiVue.

NiiVue is a program in JavaScript (npm package `@niivue/niivue`) that the project does not bring along. Its script goes
into each page, so that a page is one file that needs no network. The page's policy allows this script and its own by
their hashes, and nothing else: no request, no other script, no style.
"""

import base64
import gzip
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from scripts.core.errors import UserError
from scripts.core.files import atomic_write, read_json
from scripts.core.palette import colour
from scripts.report.overlay import overlay
from scripts.report.page import environment

VERSION = "0.69.0"  # that the page was made for
INSTALL = f"npm install --no-save --prefix . @niivue/niivue@{VERSION}"
PLACE = Path("node_modules/@niivue/niivue/dist/niivue.umd.js")
LARGEST_SCRIPT = 2**24  # bytes
LARGEST_VOLUME = 2**24  # voxels of a page; of larger volumes every second or third is shown
RANGE = (0, 1, 99.5, 99.9)  # percentiles: lowest value, black, white, highest value
FAINT, FULL, BIG = 60, 255, 0.1  # strengths of a class; faint if it fills more than that share of the volume
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
    found = next((file for folder in (Path(), bundle, bundle.parent) if (file := folder / PLACE).is_file()), None)
    return found and read(found)


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
    package = file.parents[1] / "package.json"
    return NiiVue(text, str(read_json(package).get("version")) if package.is_file() else "of unknown version")


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
    (volume, labels, affine), step = thinned(volume, labels, affine)
    known = volume[np.isfinite(volume)]
    low, black, white, high = (float(value) for value in np.percentile(known, RANGE)) if known.size else (0, 0, 1, 1)
    note = f"Image values from {low:.5g} to {high:.5g} in 256 steps: a picture, not the image itself."
    if step > 1:
        note += f" The planes show one voxel of {step} along each axis."
    classes = [
        {"value": value, "name": name, "colour": colour(value), "strength": strength(labels == value)}
        for value, name in list(enumerate(class_names))[1:]
    ]
    swatches = "".join(f".c{item['value']} {{ background: {item['colour']}; }}\n" for item in classes)
    style += swatches
    return environment.get_template("view.html").render(
        title=title,
        policy=policy([script, niivue.text], style),
        style=Markup(style),
        script=Markup(script),
        niivue=Markup(niivue.text),
        licences=licences.format(version=niivue.version),
        views=VIEWS,
        classes=classes,
        note=note,
        picture=base64.b64encode(picture).decode(),
        data={
            "image": nifti(np.clip(np.nan_to_num(volume, nan=low), low, high).astype(np.float32), affine),
            "labels": nifti(labels.astype(np.uint8), affine),
            "window": [black, white],
            "classes": classes,
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


def thinned(volume: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> tuple[tuple, int]:
    """Image, labels and affine with every voxel, or with one of two, three, ... along each axis; and which of these.

    A browser on a small machine can hold only so much.
    """
    step = math.ceil((volume.size / LARGEST_VOLUME) ** (1 / 3))
    chosen = (slice(None, None, step),) * 3
    return (volume[chosen], labels[chosen], affine @ np.diag([step, step, step, 1])), step


def strength(mask: np.ndarray) -> int:
    """How strongly a class is drawn, of 255. One that fills much of the volume would hide the others in 3D."""
    return FAINT if mask.mean() > BIG else FULL


def nifti(volume: np.ndarray, affine: np.ndarray) -> str:
    """A NIfTI file of one byte a voxel, gzipped and in base64. Its header is new: nothing in it says who it is."""
    image = nib.Nifti1Image(volume, affine)
    image.set_data_dtype(np.uint8)  # nibabel scales what is not whole numbers
    return base64.b64encode(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)).decode()


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, format="png")
    return buffer.getvalue()
