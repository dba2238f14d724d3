"""Tell how much of every pixel is ink: what differs from the background, whatever the colors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.regions import Floats, Mask

BETTER_FIT = 0.6
"""How much better the local median must fit than a smooth surface does, to be the background."""
MEDIAN_SIDE, MEDIAN_WINDOW = 32, ImageFilter.MedianFilter(15)
"""Pixels on a side of the picture that the local median is taken in, and the window it is taken over."""
NOISE_SIGMAS = 4.0
"""Contrast that the background may have, in standard deviations of its noise."""
FAINTEST_LEVELS = 12.0
"""Difference of 8-bit levels from which something can be ink."""
FAINTEST_SIGMAS = 5.0
"""... and in standard deviations of the noise: what a blank sheet doesn't reach."""
DARKEST_PIXELS = 24
"""How many pixels tell how dark ink can be; half of them may be specks."""
FLAT_LEVELS = 3.0
"""Difference of 8-bit levels within which a background is called even."""


def ink_contrast(picture: NDArray[np.uint8]) -> Floats:
    """Return [H, W]: 0 where a picture [H, W, C] is background, 1 where it is ink, of whatever colors."""
    difference = picture.astype(np.float32) - background(picture)
    signed = along_main_axis(difference)
    signed *= polarity(signed)
    noise = float(np.median(np.abs(signed))) * 1.4826  # of a normal distribution: its standard deviation
    peak = _ink_level(signed, noise)
    if peak < max(FAINTEST_LEVELS, FAINTEST_SIGMAS * noise):
        return np.zeros_like(signed)
    floor = min(NOISE_SIGMAS * noise, 0.3 * peak)
    contrast: Floats = np.clip((signed - floor) / (peak - floor), 0, 1)
    return contrast


def background(picture: NDArray[np.uint8]) -> Floats:
    """Return the background, [H, W, C] or [C]: one color if the rim has one, else a surface that fits."""
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.float32)
    color = np.median(rim, axis=0)
    if (np.abs(rim - color).max(axis=1) <= FLAT_LEVELS).mean() > 0.9:
        return np.asarray(color, dtype=np.float32)
    smooth = _smooth_surface(picture)
    misfit = _misfit(picture, smooth)
    if misfit <= FLAT_LEVELS:
        return smooth
    local = _local_median(picture)
    return local if _misfit(picture, local) < BETTER_FIT * misfit else smooth


def _misfit(picture: NDArray[np.uint8], surface: Floats) -> float:
    return float(np.median(np.abs(picture[::2, ::2] - surface[::2, ::2])))


def _local_median(picture: NDArray[np.uint8]) -> Floats:
    """Return the median around each pixel: it follows the edge of a shadow, but swallows thick strokes."""
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    small = image.resize((MEDIAN_SIDE, MEDIAN_SIDE), Image.Resampling.BOX).filter(MEDIAN_WINDOW)
    surface = np.asarray(small.resize(image.size, Image.Resampling.BILINEAR), dtype=np.float32)
    return surface.reshape(picture.shape)


def _smooth_surface(picture: NDArray[np.uint8]) -> Floats:
    """Fit a quadratic surface to each channel; ink is weighted away (Tukey's biweight)."""
    height, width, channels = picture.shape
    rows = np.linspace(0, height - 1, min(height, 32)).astype(int)
    columns = np.linspace(0, width - 1, min(width, 32)).astype(int)
    samples = picture[np.ix_(rows, columns)].reshape(-1, channels).astype(np.float32)
    terms = _quadratic(rows / height, columns / width)
    weights = _rim(len(rows), len(columns)).astype(np.float32).ravel()  # paper, most likely
    for _ in range(8):
        weighted = terms * weights[:, None]
        coefficients = np.linalg.lstsq(weighted.T @ terms, weighted.T @ samples, rcond=None)[0]
        misfit = np.abs(samples - terms @ coefficients).max(axis=1)
        scale = 4.685 * 1.4826 * float(np.median(misfit)) + 1.0
        weights = np.clip(1 - (misfit / scale) ** 2, 0, None) ** 2
    surface: Floats = _quadratic(np.arange(height) / height, np.arange(width) / width) @ coefficients
    return surface.reshape(height, width, channels)


def _rim(height: int, width: int) -> Mask:
    rim = np.ones((height, width), dtype=bool)
    rim[1:-1, 1:-1] = False
    return rim


def _quadratic(y: NDArray[np.float64], x: NDArray[np.float64]) -> Floats:
    grid_y, grid_x = (axis.ravel() for axis in np.meshgrid(y, x, indexing="ij"))
    terms = [np.ones_like(grid_x), grid_x, grid_y, grid_x * grid_y, grid_x**2, grid_y**2]
    return np.stack(terms, axis=1).astype(np.float32)


def along_main_axis(difference: Floats) -> Floats:
    """Project [H, W, C] colors on the one axis through 0 along which they vary most: ink against paper."""
    if difference.shape[2] == 1:
        return difference[..., 0]
    colors = difference.reshape(-1, difference.shape[2])
    _, axes = np.linalg.eigh(colors.T @ colors)
    return np.asarray(difference @ axes[:, -1], dtype=np.float32)


def polarity(signed: Floats) -> float:
    """Return 1 or -1, so that ink times it is positive: ink is rare and far from the background."""
    return 1.0 if float((signed * signed * signed).sum()) >= 0 else -1.0


def _ink_level(signed: Floats, noise: float) -> float:
    """Return the difference that full ink has: that of the darkest pixels, an outlier among them left out."""
    if noise == 0:
        return float(signed.max())
    darkest = (
        np.partition(signed.ravel(), -DARKEST_PIXELS)[-DARKEST_PIXELS:]
        if signed.size > DARKEST_PIXELS
        else signed
    )
    level = float(np.median(darkest))
    ink = signed[signed > max(NOISE_SIGMAS * noise, 0.5 * level)]
    return float(np.percentile(ink, 75)) if ink.size else 0.0
