"""Tools for the heart and brain phantoms: grids of slices in mm, painting with soft borders, 8 bit grey values."""

import numpy as np
from scipy import ndimage

from scripts.phantoms.shapes import Waves, dot


def pixel_grid(size, field_mm):
    """Returns the pixel centres along each axis in mm from the middle of the field, sparse, indexed as the array."""
    axes = [((np.arange(n) + 0.5) / n - 0.5) * extent for n, extent in zip(size, field_mm, strict=True)]
    return [axis.astype(np.float32) for axis in np.meshgrid(*axes, indexing="ij", sparse=True)]


def ripple(waves, points):
    """Values of smooth random waves at points x, y, z in mm (arrays or numbers): mean 0, standard deviation 1."""
    total = sum(np.cos(dot(vector, points) + np.float32(phase)) for vector, phase in zip(waves.vectors, waves.phases))
    return total * np.float32(np.sqrt(2 / len(waves.phases)))


def pixels_near(points, centre, reach):
    """Returns the slices of a grid [z, y, x] that contain all pixels near a point.

    Args:
        points: sparse z, y and x from `pixel_grid`, before any bending.
        centre: the point, x, y and z in mm.
        reach: distance in mm. Add to it the distance by which points are bent.
    """
    inside = [np.flatnonzero(np.abs(axis.ravel() - c) <= reach) for axis, c in zip(points, centre[::-1], strict=True)]
    return tuple(slice(found.min(initial=10**6), found.max(initial=-1) + 1) for found in inside)


class Sheet:
    """Channels of signal on one grid, and a label map. A later shape covers earlier ones.

    Args:
        size: pixels along each axis.
        channels: number of channels.
        pixel: size of a pixel in mm; borders have this width.
        signals: signal of each tissue by name, one number or one for each channel.
    """

    def __init__(self, size, channels, pixel, signals):
        self.signal, self.label = np.zeros((channels, *size), np.float32), np.zeros(size, np.uint8)
        self.pixel, self.signals = np.float32(pixel), signals

    def paint(self, distance, tissue, label=None, texture=0, soft=0, where=...):
        """Paints a tissue where distance < 0 (mm), and sets its label if it has one.

        Args:
            distance: signed distance to the shape in mm.
            tissue: name of the tissue, a key of `signals`.
            label: class of the tissue, or None.
            texture: relative change of the tissue's signal, an array or 0.
            soft: additional width of the border in mm.
            where: slices of the grid that `distance` covers.
        """
        share = np.clip(0.5 - distance / (self.pixel + np.float32(soft)), 0, 1)
        for channel, value in zip(self.signal, np.broadcast_to(self.signals[tissue], len(self.signal)), strict=True):
            below = channel[where]
            below += share * (np.float32(value) * (1 + texture) - below)
        if label is not None:
            self.label[where][distance < 0] = label


def to_grey_values(signal, rng, points, gain, blur, noise, bias, wavelengths):
    """Turns one channel of signal into 8 bit grey values: blur, uneven coil, Rician noise, cut at 255.

    Args:
        signal: array of signal.
        rng: random generator.
        points: coordinates of the pixels in mm.
        gain: grey value of signal 1.
        blur: standard deviation of the blur in pixels, along each axis.
        noise: standard deviation of the noise, in units of signal.
        bias: largest relative change of the signal by the coil, in [0, 1).
        wavelengths: shortest and longest wavelength of that change, in mm.
    """
    coil = 1 + bias * np.tanh(ripple(Waves.draw(rng, wavelengths[0], wavelengths[1], 4), points))
    signal = ndimage.gaussian_filter(signal, blur) * coil
    real, imaginary = (noise * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
    return np.clip(np.rint(gain * np.hypot(signal + real, imaginary)), 0, 255).astype(np.uint8)
