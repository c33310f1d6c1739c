"""Phantoms of a brain MR with a tumour: T1 before contrast, FLAIR and T1 after contrast, as a stack of axial slices.

Slices go upwards, rows towards the back, columns towards the patient's left. The tumour is bright in FLAIR. So are
small spots of the white matter, the caps of the ventricles and the scalp, which have no label.
"""

from types import SimpleNamespace

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.phantoms.shapes import Waves, blend, dot, ellipsoid, tube
from scripts.phantoms.slice_canvas import Sheet, pixel_grid, pixels_near, ripple, to_grey_values

CLASSES = ("background", "tumour")
TUMOUR = 1
FIELD_MM = (144.0, 220.0, 220.0)  # z, y, x
SIGNALS = {  # T1 before contrast, FLAIR, T1 after contrast; air is 0
    "scalp": (1.5, 1.15, 1.5),
    "muscle": (0.6, 0.6, 0.75),
    "bone": (0.12, 0.12, 0.15),
    "marrow": (0.9, 0.5, 0.95),
    "fluid": (0.28, 0.2, 0.32),
    "grey": (0.66, 0.88, 0.76),
    "nuclei": (0.74, 0.84, 0.82),
    "white": (0.88, 0.7, 0.94),
    "plexus": (0.6, 0.8, 1.4),
    "cap": (0.75, 1.2, 0.8),
    "spot": (0.72, 1.3, 0.78),
    "sinus": (0.3, 0.2, 1.7),  # venous blood: dark, but bright after contrast
    "eye": (0.3, 0.3, 0.3),
    "air": (0.02, 0.02, 0.02),
    "tumour": (0.6, 1.25, 0.68),
    "core": (0.42, 0.75, 0.48),
    "enhancing": (0.62, 1.15, 1.5),
}
SIGNAL_SPREAD = 0.05  # standard deviation of the log of a tissue's signal, between patients


def make_brain(patient, slices=24, size=(256, 256), seed=0):
    """Makes one scan; the same arguments give the same arrays.

    Args:
        patient, seed: integers from 0.
        slices: number of slices over 144 mm.
        size: rows and columns; the field of view is always 220 x 220 mm.

    Returns:
        image (uint8, [slice, row, column, sequence]) and label (uint8, index into `CLASSES`, [slice, row, column]).
    """
    build_rng, tissue_rng, scan_rng = np.random.default_rng([seed, patient, 20]).spawn(3)
    build = draw_build(build_rng)
    signals = {
        name: np.array(means) * np.exp(SIGNAL_SPREAD * tissue_rng.normal(size=3)) for name, means in SIGNALS.items()
    }
    signals["tumour"] *= (1, build.brightness, 1)
    z, y, x = axes = pixel_grid((slices, *size), FIELD_MM)
    turn = Rotation.from_euler("xyz", build.degrees, degrees=True).as_matrix() / build.scale
    shifted = [c - np.float32(s) for c, s in zip((x, y, z), build.shift, strict=True)]
    straight = [dot(row, shifted) for row in turn]
    p = [c + np.float32(2.5) * ripple(waves, (x, y, z)) for c, waves in zip(straight, build.warp, strict=True)]
    sheet = Sheet((slices, *size), 3, FIELD_MM[1] / size[0], signals)
    cavity = _paint_head(sheet, p, build)
    white = _paint_brain(sheet, p, build, cavity)
    ventricles = _paint_ventricles(sheet, p, build)
    _paint_spots(sheet, axes, build, np.maximum(white, 3 - ventricles))
    _paint_tumour(sheet, p, build, np.maximum(cavity + 3, 1 - ventricles))
    blur = (0, *(scan_rng.uniform(0.4, 0.8) * np.array(size) / FIELD_MM[1:]))  # mm to pixels, within the slice
    settings = {"blur": blur, "bias": 0.22, "wavelengths": (200, 400)}
    channels = [
        to_grey_values(
            signal, scan_rng, (x, y, z), gain=scan_rng.uniform(70, 105), noise=scan_rng.uniform(0.02, 0.05), **settings
        )
        for signal in sheet.signal
    ]
    return np.stack(channels, -1), sheet.label


def draw_build(rng):
    """Draws at random the head and the tumour of one patient (mm, degrees)."""
    side = rng.choice([-1, 1])
    return SimpleNamespace(
        scale=rng.uniform(0.93, 1.06),
        degrees=rng.uniform((-8, -5, -7), (8, 5, 7)),
        shift=rng.uniform((-5, -6, -3), (5, 6, 5)),
        scalp=rng.uniform(4, 8),
        atrophy=rng.uniform(0.7, 1.8),  # mm: half width of the furrows
        ventricles=rng.uniform(0.8, 1.5),
        warp=[Waves.draw(rng, 80, 220, 6) for _ in range(3)],
        folds=Waves.draw(rng, 24, 44, 16),
        grain=Waves.draw(rng, 8, 30, 16),
        spots=rng.uniform((-52, -64, -24, 1.5), (52, 64, 50, 4), (rng.integers(15, 40), 4)),  # x, y, z and radius
        centre=np.array([side, 1, 1]) * rng.uniform((20, -44, 2), (40, 40, 24)),
        radii=rng.uniform((15, 17, 24), (26, 30, 31)),
        edge=Waves.draw(rng, 22, 60, 12),
        brightness=rng.uniform(0.84, 1.08),  # of the tumour in FLAIR, relative
        soft=rng.uniform(1, 5),  # mm that its border is wide
        roughness=rng.uniform(2.5, 5),
        core=rng.uniform(0.35, 0.6) if rng.random() < 0.4 else 0,  # radius of a fluid core, relative
        enhancing=rng.uniform((-0.5, -0.5, -0.4, 4), (0.5, 0.5, 0.4, 8)) if rng.random() < 0.4 else None,
    )


def _paint_head(sheet, p, build):
    """Paints everything around the brain and returns the distance to the inside of the skull."""
    x, y, z = p
    pair = (np.abs(x), y, z)
    vault = ellipsoid(p, (0, 0, 4), (66, 84, 66))
    temporal = ellipsoid(pair, (36, -8, -32), (28, 38, 26))
    hind = ellipsoid(p, (0, 42, -42), (54, 38, 36))
    cavity = blend(blend(np.maximum(vault, -26 - z), temporal, 10), hind, 12)
    face = blend(
        tube(p, [(0, -50, -50), (0, -40, -140)], [44, 46]), tube(p, [(0, 30, -50), (0, 34, -140)], [60, 52]), 40
    )
    head = blend(np.minimum(vault, hind) - 9 - build.scalp, face, 30)
    sheet.paint(head, "scalp", texture=0.08 * ripple(build.grain, p))
    deep = np.maximum(head + build.scalp, z + 22)
    sheet.paint(deep, "muscle", texture=0.25 * ripple(build.grain, p))
    sheet.paint(cavity - 8, "bone")
    sheet.paint(np.abs(cavity - 4.5) - 1.5, "marrow")
    sheet.paint(ellipsoid(pair, (31, -72, -46), (18, 20, 16)), "scalp")
    sheet.paint(ellipsoid(pair, (32, -78, -46), (12, 12, 12)), "eye")
    sheet.paint(ellipsoid(pair, (8, -62, -54), (8, 22, 22)), "air")
    sheet.paint(ellipsoid(pair, (58, 22, -54), (8, 14, 12)), "air")  # cells of the mastoid
    sheet.paint(cavity, "fluid")
    sheet.paint(tube(p, [(0, 82, -20), (0, 86, 10), (0, 64, 58), (0, 0, 70)], [3.5, 3, 3, 2]), "sinus")
    return cavity


def _paint_brain(sheet, p, build, cavity):
    """Paints the brain and returns the distance to its white matter."""
    x, y, z = p
    pair = (np.abs(x), y, z)
    grain = ripple(build.grain, p)
    folds = np.abs(ripple(build.folds, (np.abs(x) + 3, y, z))) * 7  # about mm from the middle of a furrow
    middle = ellipsoid((y, z), (2, 8), (36, 20))  # where the halves are joined
    between = np.maximum(np.abs(x) - 1, -middle)
    upper = np.maximum(cavity + 2.5, -19 - z + 0.15 * np.minimum(y, 0))  # below it lies the cerebellum
    temporal = np.maximum(cavity + 2.5, ellipsoid(pair, (36, -8, -30), (30, 40, 28)))
    cerebrum = np.maximum(np.minimum(upper, temporal), -between)
    cortex = np.maximum(cerebrum, np.minimum(build.atrophy - folds, cavity + 15))  # furrows end 15 mm deep
    sheet.paint(cortex, "grey", texture=0.05 * grain)
    bank = np.minimum(build.atrophy + 3 - folds, cavity + 18)
    white = np.maximum(np.maximum(cerebrum + 3.2, bank), cavity + 6)
    sheet.paint(white, "white", texture=0.04 * grain)
    for centre, radii in (((12, 10, 4), (9, 14, 9)), ((25, -4, 3), (6, 17, 10)), ((13, -20, 10), (6, 11, 9))):
        sheet.paint(ellipsoid(pair, centre, radii), "nuclei")
    hind = np.maximum(ellipsoid(pair, (14, 46, -42), (38, 31, 23)), cavity + 3)
    leaves = np.abs((z + 42) + 0.35 * (y - 46) + 1.5 * grain) % 6 - 1.2
    sheet.paint(hind, "grey")
    sheet.paint(np.maximum(np.maximum(hind + 3, -leaves), hind + 5), "white")
    stem = tube(p, [(0, 12, -8), (0, 14, -32), (0, 24, -90)], [13, 14, 9])
    sheet.paint(np.maximum(stem, z + 4), "white", texture=0.05 * grain)
    return np.maximum(white, -18 - z)


def _paint_ventricles(sheet, p, build):
    x, y, z = p
    pair = (np.abs(x), y, z)
    s = build.ventricles
    body = tube(pair, [(6, -30, 12), (7, -6, 19), (14, 22, 17), (20, 42, 8)], [3.2 * s, 3.6 * s, 4.2 * s, 2.5 * s])
    horn = tube(pair, [(15, 24, 15), (30, 16, -14), (32, -8, -24)], [3 * s, 2 * s, 1.5 * s])
    lateral = np.maximum(np.minimum(body, horn), 0.8 - np.abs(x))
    third = tube(p, [(0, -4, 4), (0, 16, 2)], [1.6 * s, 1.6 * s])
    fourth = ellipsoid(p, (0, 30, -38), (6 * s, 4 * s, 8))
    ventricles = np.minimum(np.minimum(lateral, third), fourth)
    ends = np.minimum(ellipsoid(pair, (7, -34, 12), (9, 9, 9)), ellipsoid(pair, (21, 46, 9), (9, 10, 8)))
    sheet.paint(np.maximum(ends, lateral - 3.5), "cap", soft=3)
    sheet.paint(ventricles, "fluid")
    sheet.paint(np.maximum(ellipsoid(pair, (15, 24, 15), (2.5, 8, 3)), lateral), "plexus")
    return ventricles


def _paint_spots(sheet, axes, build, outside):
    """Paints small bright spots of the white matter, which many people have. In FLAIR they look like tumour."""
    z, y, x = axes
    for *centre, radius in build.spots:
        where = pixels_near(axes, centre, 2 * radius + 4)
        near = (x[..., where[2]], y[:, where[1]], z[where[0]])
        spot = ellipsoid(near, centre, (radius, 1.4 * radius, 1.6 * radius))
        sheet.paint(np.maximum(spot, outside[where]), "spot", soft=1, where=where)


def _paint_tumour(sheet, p, build, outside):
    shape = ellipsoid(p, build.centre, build.radii) + build.roughness * ripple(build.edge, p)
    shape = np.maximum(shape, outside)
    grain = ripple(build.grain, p)
    sheet.paint(shape, "tumour", TUMOUR, texture=0.08 * grain, soft=build.soft)
    if build.core:
        sheet.paint(np.maximum(ellipsoid(p, build.centre, build.core * build.radii), shape + 4), "core", soft=3)
    if build.enhancing is not None:
        *place, radius = build.enhancing
        node = ellipsoid(p, build.centre + place * build.radii, (radius, radius, radius)) + 0.8 * ripple(build.edge, p)
        sheet.paint(np.maximum(node, shape + 2), "enhancing", soft=1)
