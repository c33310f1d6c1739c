"""Outlines of a mask along the edges of its pixels, and the way back: the pixels whose centres an outline encloses.

Coordinates are (column, row) with whole numbers at the centres of pixels, so that the corners of a pixel are at halves.
"""

from collections.abc import Sequence

import numpy as np

MOST_CROSSINGS = 2**20  # of edges with rows at a time


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The closed outlines of a mask, one for every piece. Their area is that of the pixels.

    A hole is cut out by a keyhole: the outline runs to the hole, around it, and back on the same line.

    Args:
        mask: indexed [row, column].

    Returns:
        Arrays of corners (column, row); the last corner is joined to the first.
    """
    found = []
    for outer, *holes in pieces(mask):
        for hole in sorted(holes, key=lambda points: points[:, 0].min()):  # what lies to the left is joined already
            outer = join_hole(outer, hole)
        found.append(outer)
    return found


def pieces(mask: np.ndarray) -> list[list[np.ndarray]]:
    """For every piece of a mask its outer ring and then the rings of its holes."""
    import contourpy

    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return []
    part = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(float)
    generator = contourpy.contour_generator(z=part, fill_type=contourpy.FillType.OuterOffset)
    origin = [columns[0] - 1, rows[0] - 1]
    return [
        [pixel_edges(points[first:last] + origin) for first, last in zip(offsets[:-1], offsets[1:])]
        for points, offsets in zip(*generator.filled(0.5, 2.0))
    ]


def pixel_edges(ring: np.ndarray) -> np.ndarray:
    """Turns a ring that contourpy draws through the middles of pixel edges into one along these edges.

    contourpy cuts every corner from the middle of one edge to the middle of the next; between the two is the corner of
    a pixel. Corners are kept where the ring turns.

    Args:
        ring: points whose last is the first again.
    """
    here = np.rint(ring[:-1] * 2) / 2
    after = np.roll(here, -1, axis=0)
    upright = here[:, 0] % 1 != 0  # the edge runs along a column: its column is a half, its row a whole number
    turns = upright != np.roll(upright, -1)
    corners = np.where(upright[:, None], np.stack([here[:, 0], after[:, 1]], 1), np.stack([after[:, 0], here[:, 1]], 1))
    return corners[turns]


def join_hole(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Joins the ring of a hole to an outer ring by a line to the left along a row of pixel edges, there and back."""
    first = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
    column, row = hole[first]
    edge, meeting = nearest_to_the_left(outer, column, row)
    around = np.concatenate([np.roll(hole, -first, axis=0), hole[first : first + 1]])
    return np.concatenate([outer[: edge + 1], [meeting], around, [meeting], outer[edge + 1 :]])


def nearest_to_the_left(ring: np.ndarray, column: float, row: float) -> tuple[int, np.ndarray]:
    """The upright edge of a ring that is met first from a point to the left.

    Returns:
        The index of the edge's first corner, and the point where the edge is met.
    """
    after = np.roll(ring, -1, axis=0)
    low, high = np.minimum(ring[:, 1], after[:, 1]), np.maximum(ring[:, 1], after[:, 1])
    meets = (ring[:, 0] == after[:, 0]) & (low <= row) & (row <= high) & (ring[:, 0] <= column)
    edges = np.flatnonzero(meets)
    edge = int(edges[np.argmax(ring[edges, 0])])
    return edge, np.array([ring[edge, 0], row])


def fill(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The pixels whose centres a closed outline encloses by the even-odd rule.

    Every edge that crosses a row of centres turns over all pixels to its right. What lies outside the picture is cut
    off.

    Args:
        points: the corners (column, row).
        shape: rows and columns of the picture.
    """
    rows, columns = shape
    turned = np.zeros((rows, columns + 1), np.int32)
    after = np.roll(points, -1, axis=0)
    some = max(1, MOST_CROSSINGS // rows)  # edges at a time, so that a contour of a million points needs little memory
    for first in range(0, len(points), some):
        turn(turned, points[first : first + some], after[first : first + some])
    return (np.cumsum(turned, axis=1)[:, :columns] & 1).astype(bool)


def turn(turned: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    """Counts the edges between two lists of points at the first pixel centre to the right of each crossing."""
    rows, columns = turned.shape[0], turned.shape[1] - 1
    upward = start[:, 1] < end[:, 1]
    low, high = np.where(upward[:, None], start, end), np.where(upward[:, None], end, start)
    first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(int)
    count = np.maximum(np.clip(np.ceil(high[:, 1]), 0, rows).astype(int) - first, 0)
    edge = np.repeat(np.arange(len(start)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    slope = (high - low)[edge]
    crossing = low[edge, 0] + (row - low[edge, 1]) * slope[:, 0] / slope[:, 1]
    np.add.at(turned, (row, np.clip(np.ceil(crossing), 0, columns).astype(int)), 1)
