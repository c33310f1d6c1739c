"""Geometry of the male pelvis phantoms: turns a patient (build) and a scan (filling) into labels and tissue signal.

All shapes are signed distances in mm (negative inside) in a pelvic frame. Its origin is midway between the femoral
heads; x goes to the patient's left, y to the back, z to the head. Smooth random waves bend that frame, so that no shape
is an exact ellipsoid. All random functions depend on mm, so a patient has the same anatomy at any grid size.

Left and right differ on purpose, in image and label: the upper rectum bends to the patient's LEFT and continues in a
sigmoid loop on the left; the caecum, with gas in front, is on the RIGHT. So a flipped axis can be seen.
"""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from scipy.interpolate import CubicSpline

from scripts.phantoms.shapes import Canvas, Waves, blend, dot, ellipsoid, plate, tube

BODY, BONES, BLADDER, RECTUM, PROSTATE = 1, 2, 3, 4, 5
BLADDER_NECK = np.array([0.0, -4.0, 2.0])
RECTUM_PATH = np.array(
    [[0, 34, -47], [0, 33, -34], [0, 38, -16], [1, 50, 6], [3, 59, 30], [15, 56, 51], [38, 44, 68]], float
)

# Paired parts are given for the left side; (x, y, z) in mm and the radius there.
SOFT_TUBES = (  # tissue, paired, path, radii: painted in this order over the fat of the pelvis
    ("muscle", True, [(42, 38, 140), (76, -12, 70), (90, -40, 8), (112, 2, -60)], [27, 25, 18, 11]),  # iliopsoas
    ("muscle", True, [(64, -14, -8), (58, 16, 8), (62, 38, -12)], [9, 12, 10]),  # obturator internus
    ("muscle", True, [(36, 84, 34), (85, 62, 22), (132, 30, 0)], [11, 13, 7]),  # piriformis
    ("muscle", True, [(8, -74, 140), (10, -66, 0)], [8, 6]),  # rectus abdominis
    ("muscle", True, [(44, 10, -14), (16, 34, -46)], [4, 5]),  # levator ani
    ("muscle", False, [(0, 33, -46), (0, 42, -72)], [9, 8]),  # anal sphincter
    ("seminal_vesicle", False, [(0, 8, -58), (0, -14, -56)], [9, 6]),  # bulb of the penis: as bright as the vesicles
    ("vessel", True, [(48, 40, 120), (62, -20, 60), (60, -56, 10), (66, -60, -120)], [6, 6, 5, 5]),  # artery
    ("vein", True, [(42, 48, 120), (54, -12, 60), (50, -54, 10), (58, -58, -120)], [7, 6, 6, 6]),
    ("seminal_vesicle", True, [(5, 15, 8), (20, 21, 15), (36, 22, 20)], [6, 7, 5]),
)
BONE_TUBES = (  # path, radii
    ([(88, 0, 0), (128, 10, -30)], [18, 17]),  # neck of the femur
    ([(138, 21, -6), (134, 15, -40)], [13, 18]),  # greater trochanter
    ([(131, 14, -44), (119, 2, -220)], [18, 14]),  # shaft of the femur
    ([(118, 24, -62), (122, 12, -66)], [8, 10]),  # lesser trochanter
    ([(48, 80, 45), (47, 84, 76), (82, 58, 116), (126, 6, 128), (129, -42, 84)], [10, 9, 7, 7, 10]),  # iliac crest
    ([(78, 24, 6), (70, 36, -22), (60, 38, -52), (57, 33, -66)], [16, 12, 14, 12]),  # ischium
    ([(72, 38, -2), (56, 54, -4)], [8, 4]),  # ischial spine
    ([(78, -20, -4), (44, -42, -3), (16, -48, -14)], [14, 10, 10]),  # superior ramus of the pubis
    ([(11, -46, -14), (10, -42, -34), (33, -8, -58), (54, 26, -68)], [11, 11, 8.5, 11]),  # symphysis, inferior ramus
)
ILIAC_FAN = np.array([(49, 78, 42), (46, 84, 76), (82, 58, 116), (126, 6, 128), (129, -42, 84), (102, -36, 40)], float)
ACETABULUM = np.array([84.0, 4.0, 22.0])
FEMORAL_HEAD = np.array([88.0, 0.0, 0.0])
SACRUM = np.array(  # z, centre y, half width, half thickness
    [(-32, 66, 4, 4), (-15, 80, 9, 6), (0, 88, 17, 9), (20, 93, 32, 13), (45, 90, 43, 17), (70, 80, 52, 22)]
    + [(92, 66, 55, 25), (106, 58, 34, 24), (140, 46, 28, 20)],
    float,
)


def draw_build(rng):
    """Draws at random what is the same in all scans of a patient: body, bones, prostate, textures (mm, ml, degrees)."""
    return SimpleNamespace(
        half_width=rng.uniform(180, 204),
        half_depth=rng.uniform(106, 124),
        fat=rng.uniform(12, 28),  # under the skin
        scale=rng.uniform(0.94, 1.06),  # of the whole pelvic frame
        degrees=rng.uniform((-8, -4, -5), (8, 4, 5)),  # tilt, roll, turn
        shift=rng.uniform((-14, -10, -26), (14, 14, 0)),  # of the pelvic frame in the field
        bone=rng.uniform(1, 2.2),  # added to every bone's radius
        prostate_ml=rng.uniform(34, 60),
        prostate_shape=rng.uniform((1.05, 0.82, 0.92), (1.2, 0.95, 1.1)),
        prostate_shift=rng.uniform((-2, -1, -4), (2, 1, 3)),
        warp=[Waves.draw(rng, 110, 300, 6) for _ in range(3)],
        grain=Waves.draw(rng, 8, 30, 48),  # texture of muscle, marrow and transition zone
        septa=Waves.draw(rng, 100, 180, 16),  # fat runs between muscle bellies where this is zero
        loops=[rng.uniform((-60, -58, 62), (60, 0, 104), (5, 3)) for _ in range(6)],  # of small bowel
    )


def draw_filling(rng):
    """Draws at random what changes between scans: bladder, rectum, bowel contents, position (mm, ml, degrees)."""
    return SimpleNamespace(
        bladder_ml=np.exp(rng.uniform(np.log(110), np.log(400))),
        bladder_shape=rng.uniform((0.95, 0.85, 0.85), (1.2, 1.0, 1.05)),
        rectum_radii=rng.uniform(12.6, 14.3) + rng.uniform(-0.8, 1, 7),
        rectum_lumen=rng.uniform(0.3, 0.8, 7),  # share of the radius that is content
        rectum_shift=rng.uniform(-2.5, 2.5, (7, 3)),
        gas=rng.integers(0, 24, rng.integers(0, 4)),  # pockets, by place along the rectum
        mottle=Waves.draw(rng, 6, 16, 48),  # texture of stool
        loop_contents=rng.choice(["stool", "gas", "fluid", "bowel_wall"], 6),
        degrees=rng.uniform(-2, 2, 3),
        shift=rng.uniform(-4, 4, 3),
    )


def render_pelvis(size, build, filling, signals):
    """Renders one scan.

    Args:
        size: voxels along L, P and S.
        build: from `draw_build`.
        filling: from `draw_filling`.
        signals: tissue name to signal, any unit; air is 0.

    Returns:
        label map (uint8, classes 0 to 5) and signal with partial volume (float32).
    """
    canvas = Canvas(size, build, filling, signals)
    _paint_body(canvas, build)
    _paint_soft_tissue(canvas, build, filling)
    path, radii = _rectum_course(filling)
    _paint_rectum(canvas, filling, path, radii)
    _paint_bladder(canvas, filling)
    _paint_prostate(canvas, build, filling)
    _paint_bones(canvas, build)
    return canvas.label, canvas.signal


def _paint_body(canvas, build):
    everything = (slice(None),) * 3
    x, y, z = canvas.points
    waist = 1 - 0.12 * np.clip((z - 20) / 100, 0, 1)
    flat = np.maximum(np.abs(x) - 60, 0)  # stretches an ellipse sideways: a trunk is rather flat in front
    trunk = ellipsoid((flat, y), (0, 8), (build.half_width * waist - 60, build.half_depth))
    trunk = -blend(-trunk, 74 + z, 30)  # ends at the perineum
    p = (np.abs(x), y, z)
    thighs = tube(p, [(102, 4, -20), (94, 2, -260)], [build.half_width - 106, build.half_width - 112])
    buttocks = ellipsoid(p, (62, build.half_depth - 52, -28), (78, 70, 84))
    genitals = tube((x, y, z), [(0, -80, -50), (0, -84, -120)], [18, 24])
    body = blend(blend(blend(trunk, thighs, 30), buttocks, 24), genitals, 8)
    canvas.paint(everything, body, "skin", BODY)
    canvas.paint(everything, body + 2.5, "fat", texture=0.05 * canvas.grain)
    canvas.skin = body + 2.5
    inner = body + build.fat * (1 + 0.5 * np.clip(y / 110, -0.5, 1))
    canvas.paint(everything, inner, "muscle", texture=0.1 * canvas.grain)
    canvas.paint(everything, np.maximum(np.abs(canvas.septa) * 14 - 1.2, inner + 2), "fat")


def _paint_soft_tissue(canvas, build, filling):
    for centre, radii in (((0, 18, 8), (61, 54, 64)), ((0, -14, 110), (104, 54, 92)), ((0, 48, -50), (46, 34, 26))):
        box, p = canvas.near([centre], max(radii))
        canvas.paint(box, ellipsoid(p, centre, radii), "fat", texture=0.06 * canvas.grain[box])
    for tissue, paired, path, widths in SOFT_TUBES:
        box, p = canvas.near(path, max(widths), paired)
        canvas.paint(box, tube(p, path, widths), tissue, texture=0.15 * canvas.grain[box])
    sigmoid = [RECTUM_PATH[-1] + (6, -4, 10), (58, 26, 92), (76, -12, 84), (70, -40, 98), (86, -30, 150)]
    caecum = [(-66, -22, 118), (-66, -26, 84)]
    loops = [(loop, [11] * 5, content) for loop, content in zip(build.loops, filling.loop_contents, strict=True)]
    for path, widths, content in [*loops, (sigmoid, [7, 9, 13, 12, 11], "stool"), (caecum, [24, 22], "stool")]:
        box, p = canvas.near(path, max(widths))
        distance = tube(p, path, widths)
        canvas.paint(box, distance, "bowel_wall")
        canvas.paint(box, distance + 2.5, content, texture=0.35 * canvas.mottle[box])
    box, p = canvas.near(caecum, 24)
    gas = np.maximum(tube(p, caecum, [21, 19]), p[1] + 26)  # gas rises: the patient lies on his back
    canvas.paint(box, gas, "gas")


def _rectum_course(filling):
    knots, fine = np.linspace(0, 1, 7), np.linspace(0, 1, 25)
    course = np.column_stack([RECTUM_PATH + filling.rectum_shift, filling.rectum_radii, filling.rectum_lumen])
    course = CubicSpline(knots, course)(fine)
    return course[:, :3], course[:, 3:]


def _paint_rectum(canvas, filling, path, widths):
    radii, lumen = widths.T
    box, p = canvas.near(path, radii.max())
    canvas.paint(box, tube(p, path, radii), "bowel_wall", RECTUM)
    inside = tube(p, path, radii * lumen)
    canvas.paint(box, inside, "stool", texture=0.4 * canvas.mottle[box])
    for place in filling.gas:
        pocket = ellipsoid(p, path[place] - (0, 3, 0), (18, 10, 18))
        canvas.paint(box, np.maximum(pocket, inside), "gas")


def _paint_bladder(canvas, filling):
    radii = filling.bladder_shape * (750 * filling.bladder_ml / np.pi / np.prod(filling.bladder_shape)) ** (1 / 3)
    radii /= canvas.scale
    centre = BLADDER_NECK + (0, -0.22 * radii[1], 0.95 * radii[2])  # fills upward and forward
    box, p = canvas.near([centre, BLADDER_NECK], radii.max())
    bladder = blend(ellipsoid(p, centre, radii), tube(p, [BLADDER_NECK, centre], [6, 6]), 14)
    canvas.paint(box, bladder, "bladder_wall", BLADDER)
    canvas.paint(box, bladder + 4, "urine")


def _paint_prostate(canvas, build, filling):
    radii = build.prostate_shape * (750 * build.prostate_ml / np.pi / np.prod(build.prostate_shape)) ** (1 / 3)
    radii /= canvas.scale
    pushed = (0, 0.6 * (14.5 - filling.rectum_radii[2]), -2 * np.log(filling.bladder_ml / 200))  # by rectum and bladder
    centre = BLADDER_NECK + (0, 4, 3 - radii[2]) + build.prostate_shift + pushed
    box, p = canvas.near([centre], max(radii) + 4)
    x, y, z = p
    p = (x / (1 + np.float32(0.2) * (z - np.float32(centre[2])) / np.float32(radii[2])), y, z)  # narrow at the apex
    gland = ellipsoid(p, centre, radii)
    canvas.paint(box, gland, "capsule", PROSTATE)
    canvas.paint(box, gland + 2, "peripheral_zone", texture=0.08 * canvas.grain[box])
    inner = ellipsoid(p, centre + (0, -0.25, 0.15) * radii, (0.74, 0.68, 0.8) * radii)
    canvas.paint(box, np.maximum(inner, gland + 2), "transition_zone", texture=0.3 * canvas.grain[box])


def _paint_bones(canvas, build):
    box, p = canvas.near([(0, -50, -120), (150, 100, 140)], 10, paired=True)
    x, y, z = p
    z_knots, *profile = SACRUM.T
    middle, width, thickness = (np.interp(z, z_knots, values).astype(np.float32) for values in profile)
    sacrum = np.maximum(ellipsoid((x, y - middle), (0, 0), (width, thickness)), -34 - z)
    head = ellipsoid(p, FEMORAL_HEAD, (24, 24, 24))
    socket = np.maximum(np.maximum(head - 10, -head), dot((0.75, -0.25, -0.6), p) - np.float32(0.75 * 88 + 8))
    bone = np.minimum(np.minimum(sacrum, head), socket)
    for path, radii in BONE_TUBES:
        bone = blend(bone, tube(p, path, radii), 5)
    for b, c in pairwise(ILIAC_FAN):
        bone = blend(bone, plate(p, ACETABULUM, b, c) - 7, 5)
    bone = bone - build.bone
    canvas.paint(box, bone, "cortex", BONES)
    joints = np.maximum(1.2 - np.abs(head), np.where(y < 0, 2 - x, -9))  # hip and symphysis: cartilage stays dark
    marrow = np.maximum(bone + 1.7, joints)
    canvas.paint(box, marrow, "marrow", texture=0.06 * canvas.grain[box])
