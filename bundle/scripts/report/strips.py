"""Strips: pictures of one case with image, truth, prediction and error side by side. A strip shows all classes, or one
class and what is around it."""

import base64
import io
from collections.abc import Sequence

import nibabel as nib
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imsave
from scipy.ndimage import binary_dilation, find_objects, map_coordinates

from scripts.core.palette import colour
from scripts.report.measures import enclosing_box
from scripts.report.overlay import PLANES, blend, cut, shares, upright, window_of

# Distinct for every kind of colour vision. Printed in grey they are light, middle and dark.
ERROR_COLOURS = {"missed": "#FFE14D", "extra": "#D13A00", "wrong class": "#4DA3FF"}
CLEAR, WRONG = 0.1, 0.6  # doubt that is drawn in full, and that has the last colour
SHOWN = (CLEAR, 0.2, 0.4, WRONG)  # in the legend
SIDE = 256  # px, the longest side of a tile
FIELD_MM = 80.0  # the smallest side of a crop: in a smaller one nobody sees where in the body it is
MARGIN_MM = 10.0  # around the structure
FLAT = 0.2  # grey value where there is no image
AXIAL_FIRST = (2, 1, 0)  # of planes that show equally much, the one that is read most often


def strip(image, truth, prediction, affine, value: int | None = None, doubt=None) -> dict:
    """One strip; see `Scan.strip`."""
    return Scan(image, truth, prediction, affine, doubt).strip(value)


def strips(image, truth, prediction, affine, class_names, doubt=None) -> dict[str, dict]:
    """All strips of a case by class name: each class that is in the truth or the prediction, and "" for all of them."""
    scan = Scan(image, truth, prediction, affine, doubt)
    made = {"": scan.strip()}
    return made | {name: scan.strip(value) for value, name in enumerate(class_names) if value and scan.has(value)}


class Scan:
    """The volumes of one case in RAS order, and where each class is in them.

    Args:
        image: grey values on any grid, or None where there is no image to show.
        truth: labels on the same grid, or None.
        prediction: labels on the same grid.
        affine: voxel to RAS millimetres of that grid.
        doubt: in percent on the same grid, or None where it is not known.
    """

    def __init__(self, image, truth, prediction, affine, doubt=None):
        self.prediction, self.spacing = upright(np.asarray(prediction).astype(np.uint8, copy=False), affine)
        self.truth = None if truth is None else upright(np.asarray(truth).astype(np.uint8, copy=False), affine)[0]
        self.doubt = None if doubt is None else upright(np.asarray(doubt).astype(np.float32), affine)[0]
        self.orientation = nib.io_orientation(affine)
        self.image, self.window = None, (0.0, 1.0)
        if image is not None:
            self.image = upright(np.asarray(image).astype(np.float32, copy=False), affine)[0]
            step = 2 if self.image.size > 2_000_000 else 1  # every second voxel is enough for the percentiles
            self.window = window_of(self.image[::step, ::step, ::step])
        self.maps = [labels for labels in (self.truth, self.prediction) if labels is not None]
        self.boxes = boxes(self.maps)
        self.known: dict[int, list[np.ndarray]] = {}

    def has(self, value: int) -> bool:
        return value in self.boxes

    def strip(self, value: int | None = None) -> dict:
        """Image, truth, prediction, error and doubt in one slice, as JPEGs in base64.

        Args:
            value: a class, shown in the slice with most of its errors, or without a truth of its doubt, and cropped to
                it; None for all classes together.

        Returns:
            plane, slice and axis (of the file's own array, both from 0) and the tiles by name.
        """
        axis, index = self.choose_slice(value)
        truth, prediction = (None if m is None else cut(m, axis, index) for m in (self.truth, self.prediction))
        if value is not None:
            truth = None if truth is None else np.where(truth == value, truth, 0)
            prediction = np.where(prediction == value, prediction, 0)
        marked = prediction > 0 if truth is None else (prediction > 0) | (truth > 0)
        millimetres = [size for i, size in enumerate(self.spacing) if i != axis][::-1]
        window = [slice(0, n) for n in marked.shape] if value is None else crop(marked, millimetres)
        points = grid(window, millimetres)
        tiles = self.draw(axis, index, truth, prediction, points)
        axis, index = self.in_file(axis, index)
        return {"plane": PLANES[self.ras_axis(axis)], "slice": index, "axis": axis, "tiles": tiles}

    def choose_slice(self, value: int | None) -> tuple[int, int]:
        """Axis and index, in RAS order, of the slice to show."""
        if value is None:
            return self.most_informative()
        if not self.has(value):
            return 2, self.prediction.shape[2] // 2
        areas = self.areas(value)
        millimetres = np.prod(self.spacing) / self.spacing  # mm^2 of a voxel's face across each axis
        axis = max(self.planes(), key=lambda i: areas[i].max() * millimetres[i])
        if self.truth is None and self.doubt is None:
            return axis, int(np.argmax(areas[axis]))
        if self.truth is None:
            wrong = self.doubt_of(value).sum(tuple(i for i in range(3) if i != axis))
        else:
            box = self.boxes[value]
            errors = (self.truth[box] == value) ^ (self.prediction[box] == value)
            wrong = full_axis(count_in_slices(errors, axis), box[axis], self.prediction.shape[axis])
        return axis, int(np.lexsort((areas[axis], wrong))[-1])  # most errors or doubt; of equals the largest area

    def most_informative(self) -> tuple[int, int]:
        """The slice that shows most of all classes, in the best plane."""
        best = (-1.0, 2, self.prediction.shape[2] // 2)
        for axis in self.planes():
            shown = shares(self.areas(value)[axis] for value in self.boxes)
            if shown.max() > best[0] + 1e-9 and self.boxes:
                best = (float(shown.max()), axis, int(np.argmax(shown)))
        return best[1:]

    def planes(self) -> Sequence[int]:
        """The axes across which a slice may be shown: of a single slice the one across it."""
        return [axis for axis in AXIAL_FIRST if self.prediction.shape[axis] == 1] or AXIAL_FIRST

    def doubt_of(self, value: int) -> np.ndarray:
        """The doubt where the class is and two voxels around it."""
        near = binary_dilation(self.prediction == value, iterations=2)
        return np.where(near, self.doubt, 0)

    def areas(self, value: int) -> list[np.ndarray]:
        """Voxels of the class in truth or prediction, in every slice across each axis."""
        if value not in self.known:
            box = self.boxes[value]
            mask = self.maps[0][box] == value
            for other in self.maps[1:]:
                mask |= other[box] == value
            shape = self.prediction.shape
            self.known[value] = [full_axis(count_in_slices(mask, axis), box[axis], shape[axis]) for axis in range(3)]
        return self.known[value]

    def ras_axis(self, file_axis: int) -> int:
        return int(self.orientation[file_axis, 0])

    def in_file(self, axis: int, index: int) -> tuple[int, int]:
        """Axis and index in the file's own array."""
        file_axis = int(np.flatnonzero(self.orientation[:, 0] == axis)[0])
        turned = self.orientation[file_axis, 1] < 0
        return file_axis, self.prediction.shape[axis] - 1 - index if turned else index

    def draw(self, axis, index, truth, prediction, points) -> dict[str, str]:
        labels = {"truth": truth, "prediction": prediction}
        labels = {name: nearest(plane, points) for name, plane in labels.items() if plane is not None}
        grey = np.full(np.broadcast(*points).shape, FLAT, np.float32)
        if self.image is not None:
            plane = np.nan_to_num(cut(self.image, axis, index).astype(np.float32))
            drawn = map_coordinates(plane, np.broadcast_arrays(*points), order=1, mode="nearest")
            grey = np.clip((drawn - self.window[0]) / self.window[1], 0, 1)
        grey = np.repeat(grey[..., None], 3, axis=-1)
        tiles = {} if self.image is None else {"image": jpeg(grey)}
        tiles |= {name: jpeg(outlined(blend(grey.copy(), plane), plane)) for name, plane in labels.items()}
        if truth is not None:
            tiles["error"] = jpeg(errors_over(grey, labels["truth"], labels["prediction"]))
        if self.doubt is not None:
            plane = cut(self.doubt, axis, index)
            share = map_coordinates(plane, np.broadcast_arrays(*points), order=1, mode="nearest") / 100
            tiles["doubt"] = jpeg(doubt_over(grey, share))
        return tiles


def boxes(maps: list[np.ndarray]) -> dict[int, tuple[slice, ...]]:
    """The box of every class that is in any of the maps."""
    found: dict[int, tuple[slice, ...]] = {}
    for labels in maps:
        for value, box in enumerate(find_objects(labels), start=1):
            if box is not None:
                found[value] = enclosing_box([box, found.get(value)], labels.ndim)
    return dict(sorted(found.items()))


def count_in_slices(mask: np.ndarray, axis: int) -> np.ndarray:
    """Voxels of the mask in each slice across the axis."""
    others = [i for i in range(3) if i != axis]
    return mask.sum(axis=others[1], dtype=np.uint16).sum(axis=others[0], dtype=np.int64)


def full_axis(counts: np.ndarray, where: slice, length: int) -> np.ndarray:
    """Counts of a box, with zeros for the rest of the axis."""
    filled = np.zeros(length, np.int64)
    filled[where] = counts
    return filled


def crop(marked: np.ndarray, millimetres: list[float]) -> list[slice]:
    """Rows and columns around the marked pixels, with a margin; no side is below `FIELD_MM` if the plane is larger."""
    window = []
    for i in (0, 1):
        hit = np.flatnonzero(marked.any(axis=1 - i))
        low, high = (hit[0], hit[-1] + 1) if hit.size else (0, marked.shape[i])
        side = max((high - low) * millimetres[i] + 2 * MARGIN_MM, FIELD_MM)
        count = min(marked.shape[i], int(np.ceil(side / millimetres[i])))
        start = int(np.clip(round((low + high - count) / 2), 0, marked.shape[i] - count))
        window.append(slice(start, start + count))
    return window


def grid(window: list[slice], millimetres: list[float]) -> list[np.ndarray]:
    """Rows and columns to read, in voxels, so that pixels are square and the longer side has `SIDE` of them."""
    extent = [(part.stop - part.start) * size for part, size in zip(window, millimetres)]
    counts = [max(1, round(SIDE * length / max(extent))) for length in extent]
    rows, columns = (
        part.start + (np.arange(count) + 0.5) * (part.stop - part.start) / count - 0.5
        for part, count in zip(window, counts)
    )
    return [rows[:, None], columns[None, :]]


def nearest(plane: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    rows, columns = (np.clip(np.rint(at).astype(int), 0, n - 1) for at, n in zip(points, plane.shape))
    return plane[rows, columns]


def outlined(rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The picture with the edge of every class in its full colour, because a thin tint is easily overlooked."""
    inner = np.ones(labels.shape, bool)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inner &= labels == np.roll(labels, step, axis)
    for value in np.unique(labels[~inner & (labels > 0)]):
        rgb[~inner & (labels == value)] = to_rgb(colour(int(value)))
    return rgb


def errors_over(grey: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    shown = grey.copy()
    kinds = {
        "missed": (truth > 0) & (prediction == 0),
        "extra": (truth == 0) & (prediction > 0),
        "wrong class": (truth > 0) & (prediction > 0) & (truth != prediction),
    }
    for kind, mask in kinds.items():
        shown[mask] = 0.15 * shown[mask] + 0.85 * np.array(to_rgb(ERROR_COLOURS[kind]))
    return shown


def doubt_over(grey: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The picture, coloured where the label is doubtful; `share` is from 0 to 1."""
    opaque = np.clip(share / CLEAR, 0, 1)[..., None]
    return (1 - opaque) * grey + opaque * doubt_colour(share)


def doubt_colour(share: np.ndarray) -> np.ndarray:
    """From violet, where little is doubtful, to light yellow."""
    return colormaps["plasma"](np.clip(share / WRONG, 0, 1))[..., :3]


def doubt_legend() -> list[tuple[str, str]]:
    """Chances that a label is wrong, and their colours."""
    hues = map(to_hex, doubt_colour(np.array(SHOWN)))
    return [(f"{share:.0%}" + " and more" * (share == WRONG), hue) for share, hue in zip(SHOWN, hues)]


def jpeg(rgb: np.ndarray) -> str:
    """The picture as a JPEG in base64."""
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray((rgb * 255 + 0.5).astype(np.uint8))
    # no subsampling, which would blur coloured lines that are one pixel wide
    imsave(buffer, pixels, format="jpg", pil_kwargs={"quality": 80, "subsampling": 0})
    return base64.b64encode(buffer.getvalue()).decode()
