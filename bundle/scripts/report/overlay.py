"""Pictures of label maps over images, in three planes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scripts.core.files import atomic_write
from scripts.core.palette import colour

PLANES = ("sagittal", "coronal", "axial")  # the plane across each axis of a volume in RAS order
EDGES = {"sagittal": ("P", "A"), "coronal": ("R", "L"), "axial": ("R", "L")}


def overlay(
    image: np.ndarray,
    label_maps: dict[str, np.ndarray],
    affine: np.ndarray,
    class_names: Sequence[str],
    file: Path | None = None,
    title: str = "",
) -> Figure:
    """Draws a row for each plane: the image, then each label map over it. There is a legend, and sides are marked as
    radiologists read them.

    Args:
        image: volume on any grid, of shape (x, y, z).
        label_maps: label volumes on the same grid by title, at least one; the slices are chosen by the first.
        affine: voxel to RAS millimetres, as NIfTI has it.
        class_names: names of the values 0, 1, ...
        file: PNG to write, or None.
        title: line above the picture.
    """
    image, spacing = upright(np.asarray(image, np.float32), affine)  # NIfTI has no integers of 64 bits
    maps = {name: upright(labels, affine)[0] for name, labels in label_maps.items()}
    where = most_informative_slices(next(iter(maps.values())))
    extent = image.shape * spacing
    planes = [axis for axis in (2, 1, 0) if min(np.delete(image.shape, axis)) > 1]  # a single slice has only one
    heights = [extent[1] if axis == 2 else extent[2] for axis in planes]  # of the rows, in mm
    width = 3.6 * (1 + len(maps))
    size = (width, 3.6 * sum(heights) / max(extent[:2]) + 1.8)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots(len(planes), 1 + len(maps), squeeze=False, height_ratios=heights)
    black, greys = window_of(image)
    for row, axis in zip(axes, planes):
        grey = np.clip((np.nan_to_num(cut(image, axis, where[axis])) - black) / greys, 0, 1)
        ratio = aspect(spacing, axis)
        for column, (name, labels) in enumerate([("image", None), *maps.items()]):
            shown = np.repeat(grey[..., None], 3, axis=-1)
            if labels is not None:
                shown = blend(shown, cut(labels, axis, where[axis]))
            row[column].imshow(shown, aspect=ratio, interpolation="nearest")
            row[column].set_title(f"{name}, {PLANES[axis]}", fontsize=10, parse_math=False)
            mark_sides(row[column], PLANES[axis])
    names = list(enumerate(class_names))[1:]
    figure.legend(
        handles=[Patch(color=colour(value), label=name) for value, name in names],
        loc="outside lower center",
        ncols=min(5, len(names)),
        frameon=False,
    )
    figure.suptitle(f"{title}\nresearch use only".strip(), fontsize=10, parse_math=False)
    FigureCanvasAgg(figure)
    if file is not None:
        with atomic_write(file) as partial:
            figure.savefig(partial, dpi=90, format="png")
    return figure


def upright(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The volume with its axes in RAS order, and its voxel size in mm."""
    canonical = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    return np.asanyarray(canonical.dataobj), nib.affines.voxel_sizes(canonical.affine)


def window_of(image: np.ndarray) -> tuple[float, float]:
    """The value that is drawn black, and how far above it white is; values that are not finite don't count."""
    values = image[np.isfinite(image)]
    low, high = np.percentile(values, (1, 99.5)) if values.size else (0, 1)
    return float(low), max(float(high - low), 1e-6)


def most_informative_slices(labels: np.ndarray) -> list[int]:
    """For every axis the slice that shows most of all classes, see `shares`."""
    values = [value for value in np.unique(labels) if value > 0]
    chosen = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        areas = [np.count_nonzero(labels == value, axis=others) for value in values]
        chosen.append(int(np.argmax(shares(areas))) if values else labels.shape[axis] // 2)
    return chosen


def shares(areas: Iterable[np.ndarray]) -> np.ndarray:
    """How much of all classes every slice shows: of each class, the share of its largest area.

    Args:
        areas: of each class, in every slice.
    """
    return sum((area / area.max() for area in areas), np.zeros(1))


def cut(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice as an array of rows from the top: head or front up, the patient's right on the left."""
    plane = np.take(volume, index, axis=axis).T[::-1]
    return plane if PLANES[axis] == "sagittal" else plane[:, ::-1]


def aspect(spacing: np.ndarray, axis: int) -> float:
    across, up = [size for i, size in enumerate(spacing) if i != axis]
    return float(up / across)


def blend(rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Classes in their colour over a picture of grey values. One that fills a fifth of it is only slightly tinted."""
    for value in np.unique(labels[labels > 0]):
        mask = labels == value
        strength = 0.2 if mask.mean() > 0.2 else 0.5
        rgb[mask] = (1 - strength) * rgb[mask] + strength * np.array(to_rgb(colour(int(value))))
    return rgb


def mark_sides(axis, plane: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for side, x, align in zip(EDGES[plane], (0.02, 0.98), ("left", "right")):
        axis.text(x, 0.5, side, transform=axis.transAxes, color="white", ha=align, va="center", fontsize=9)
