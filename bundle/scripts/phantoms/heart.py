"""Phantoms of a short-axis cine MR of the heart: ventricles and myocardium, and the tissues around them.

Rows go towards the back, columns towards the patient's left. Cavities, fat and the aorta are equally bright; muscle,
liver and the heart's wall are equally dark. They differ only in shape and position.
"""

from types import SimpleNamespace

import numpy as np

from scripts.phantoms.shapes import Waves, ellipsoid
from scripts.phantoms.slice_canvas import Sheet, pixel_grid, ripple, to_grey_values

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
RIGHT, MYOCARDIUM, LEFT = 1, 2, 3
FIELD_MM = (144.0, 144.0)
SIGNALS = {  # relative to blood; air is 0
    "blood": 1.0,
    "right_blood": 0.92,
    "aorta": 1.0,
    "myocardium": 0.3,
    "papillary": 0.36,
    "fat": 0.95,
    "muscle": 0.33,
    "rib": 0.2,
    "lung": 0.1,
    "lung_vessel": 0.45,
    "liver": 0.42,
    "liver_vessel": 0.75,
    "stomach": 0.5,
}
SIGNAL_SPREAD = 0.15  # standard deviation of the log of a tissue's signal, between patients


def make_heart(patient, phase, size=(96, 96), seed=0):
    """Makes one slice; the same arguments give the same arrays.

    Args:
        patient, phase, seed: integers from 0. In even phases the heart is filled (end of diastole), in odd ones
            contracted (end of systole).
        size: rows and columns; the field of view is always 144 x 144 mm.

    Returns:
        image (uint8) and label (uint8, index into `CLASSES`), both indexed [row, column].
    """
    build_rng, scan_rng = (np.random.default_rng([seed, patient, kind]) for kind in (10, 11 + phase))
    build = draw_build(build_rng)
    signals = {name: mean * np.exp(SIGNAL_SPREAD * build_rng.normal()) for name, mean in SIGNALS.items()}
    y, x = pixel_grid(size, FIELD_MM)
    flat = (x, y, np.float32(0))
    bent = [c + np.float32(2.5) * ripple(waves, flat) for c, waves in zip((x, y), build.warp, strict=True)]
    sheet = Sheet(size, 1, FIELD_MM[0] / size[0], signals)
    _paint_chest(sheet, bent, build, ripple(build.grain, flat))
    _paint_heart(sheet, bent, build, draw_beat(scan_rng, phase % 2), ripple(build.flow, flat))
    brightest = np.percentile(sheet.signal, scan_rng.uniform(96, 99.5))
    blur = scan_rng.uniform(0.5, 1.3) * np.array(size) / FIELD_MM  # mm to pixels
    image = to_grey_values(
        sheet.signal[0],
        scan_rng,
        flat,
        gain=scan_rng.uniform(190, 240) / brightest,
        blur=blur,
        noise=scan_rng.uniform(0.03, 0.08),
        bias=0.35,
        wavelengths=(200, 400),
    )
    return image, sheet.label


def draw_build(rng):
    """Draws at random what is the same in all phases of a patient (mm, degrees)."""
    return SimpleNamespace(
        centre=np.array([11, 0]) + rng.normal(0, (6, 7)),  # of the left ventricle: x, y
        outer=rng.uniform(25, 39),  # radius of the left ventricle's outside
        wall=rng.uniform(0.22, 0.34),  # share of that radius
        stretch=rng.uniform(0.9, 1.12),
        turn=np.radians(np.clip(rng.normal(166, 24), 115, 230)),  # where the right ventricle lies: 90 is down, 180 left
        right=rng.uniform((0.85, 13), (1.15, 24)),  # half length as a share of `outer`, half width in mm
        fat=rng.uniform(1, 7),  # round the heart
        chest=rng.uniform((195, 44, 5), (260, 62, 20)),  # direction (270 is up), mm from the middle, mm of fat
        liver=rng.uniform((75, 36), (135, 56)),  # direction and mm from the middle
        stomach=rng.uniform((20, 38, 14), (62, 66, 28)),  # x, y and radius
        aorta=rng.uniform((-10, 46, 8), (34, 66, 12)),
        papillary=rng.uniform((40, 0.5, 0.13), (80, 0.72, 0.2), (2, 3)),  # degrees, distance and radius over cavity's
        vessels=rng.uniform((-70, -70, 1), (70, 70, 4), (14, 3)),
        warp=[Waves.draw(rng, 45, 140, 6) for _ in range(2)],
        grain=Waves.draw(rng, 7, 30, 32),
        flow=Waves.draw(rng, 12, 50, 16),
        crest=Waves.draw(rng, 40, 90, 6),  # thickness of the heart's fat
    )


def draw_beat(rng, emptied):
    """Draws at random the size of the ventricles in one phase, relative to the filled ones."""
    return SimpleNamespace(
        outer=rng.uniform(0.88, 0.95) if emptied else 1,
        cavity=rng.uniform(0.58, 0.8) if emptied else rng.uniform(0.97, 1.03),
        right=rng.uniform(0.7, 0.85) if emptied else 1,
        shift=rng.normal(0, 1.5, 2),
    )


def _paint_chest(sheet, p, build, grain):
    sheet.paint(np.full(grain.shape, -9, np.float32), "lung", texture=0.3 * grain)
    for x, y, radius in build.vessels:
        sheet.paint(ellipsoid(p, (x, y), (radius, radius)), "lung_vessel")
    liver = build.liver[1] - _along(p, build.liver[0])
    sheet.paint(liver, "fat")
    sheet.paint(liver + 3, "liver", texture=0.08 * grain)
    for x, y, radius in build.vessels[:8]:
        vessel = ellipsoid(p, (x, y + 20), (radius, 2 * radius))
        sheet.paint(np.maximum(vessel, liver + 6), "liver_vessel")
    x, y, radius = build.stomach
    sheet.paint(ellipsoid(p, (x, y), (1.3 * radius, radius)), "muscle")
    sheet.paint(ellipsoid(p, (x, y), (1.3 * radius - 3, radius - 3)), "stomach", texture=0.5 * grain)
    x, y, radius = build.aorta
    sheet.paint(ellipsoid(p, (x, y), (radius + 2, radius + 2)), "muscle")
    sheet.paint(ellipsoid(p, (x, y), (radius, radius)), "aorta")
    direction, depth, fat = build.chest
    outside, across = _along(p, direction), _along(p, direction + 90)
    sheet.paint(depth - outside, "muscle", texture=0.15 * grain)
    sheet.paint(np.abs(outside - depth - 3) - 1.5, "fat", texture=0.2 * grain)
    ribs = np.hypot((across + 500) % 36 - 18, outside - depth - 10) - 6
    sheet.paint(ribs, "rib")
    sheet.paint(ribs + 2, "fat", texture=0.2 * grain)
    sheet.paint(depth + 18 - outside, "fat", texture=0.08 * grain)
    sheet.paint(depth + 18 + fat - outside, "rib")
    sheet.signal *= np.clip(0.5 - (outside - depth - 20 - fat) / sheet.pixel, 0, 1)  # air


def _paint_heart(sheet, p, build, beat, flow):
    centre = build.centre + beat.shift
    facing = np.array([np.cos(build.turn), np.sin(build.turn)])
    local = [_along(p, build.turn, centre, True), _along(p, build.turn + np.pi / 2, centre, True)]
    outer, cavity = build.outer * beat.outer, build.outer * (1 - build.wall) * beat.cavity
    stretch = np.array([1 / build.stretch, build.stretch])
    outside = ellipsoid(local, (0, 0), outer * stretch)
    inside = ellipsoid(local, (0.4, 0.4), cavity * stretch)
    length, width = build.right[0] * outer * beat.right, build.right[1] * beat.right
    right = ellipsoid((local[0] + 0.006 * local[1] ** 2, local[1]), (outer + 0.35 * width, 0), (width, length))
    heart = np.minimum(outside, right - 2.5)
    share = 0.6 + 0.4 * np.tanh(local[0] / 15)  # most of the fat is on the side of the right ventricle
    crest = np.maximum(build.fat * share * (1 + 0.6 * ripple(build.crest, (*p, np.float32(0)))), 0)
    sheet.paint(heart - crest - 1.5, "rib")
    sheet.paint(heart - crest, "fat", texture=0.1 * flow)
    sheet.paint(right - 2.5, "myocardium")
    sheet.paint(right, "right_blood", RIGHT, texture=0.22 * flow)
    sheet.paint(outside, "myocardium", MYOCARDIUM, texture=0.08 * flow)  # the septum belongs to the left ventricle
    sheet.paint(inside, "blood", LEFT, texture=0.12 * flow)
    for side, (degrees, distance, radius) in zip((-1, 1), build.papillary, strict=True):
        angle = build.turn + np.pi + side * np.radians(degrees)
        place = centre + distance * cavity * np.array([np.cos(angle), np.sin(angle)])
        sheet.paint(np.maximum(ellipsoid(p, place, [radius * cavity + 1] * 2), inside), "papillary")
    groove = centre + facing * outer + outer * 0.8 * np.array([-facing[1], facing[0]])
    sheet.paint(np.maximum(ellipsoid(p, groove, (5, 5)), 1 - heart), "fat")


def _along(p, direction, centre=(0, 0), radians=False):
    """Returns the coordinate of points along a direction in the plane, in mm: 0 is to the right, 90 degrees down."""
    angle = direction if radians else np.radians(direction)
    return sum(np.float32(s) * (c - np.float32(m)) for s, c, m in zip((np.cos(angle), np.sin(angle)), p, centre))
