"""Tell the ink of a handwritten character from everything else in a picture.

Photographs have shadows, colors, specks, ruled lines and the edge of a table; what comes out is how much of
every pixel is ink of the character.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

INK_LEVEL = 0.4
"""Contrast from which a pixel is ink."""
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
SCENERY_PART = 0.35
"""What runs along more of a side of the picture than this is no character."""
BAND_PART = 0.9
"""A line of pixels covered to this part is no stroke, if so are all from it to the picture's side."""
SMALLEST_PART = 0.05
"""What is smaller than this part of the picture is no character but a speck, if anything else can be one."""
MAIN_PART = 0.12
"""A stroke apart is of the character if it has this part of the ink that the largest one has."""

# --- contrast: what of the picture differs from its background ---


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


# --- the character: which of the contrast is it ---


def main_ink(contrast: Floats) -> Floats:
    """Keep the character: the stroke with most ink and its like; no specks, no paper's edge."""
    everything = contrast > INK_LEVEL
    mask = without_scenery(everything)
    if not mask.any():
        return np.zeros_like(contrast)
    labels = components(_dilated(mask, max(1, max(mask.shape) // 80)))
    ink = np.bincount(labels.ravel(), weights=(contrast * mask).ravel())
    keep = ink >= MAIN_PART * ink.max()
    keep[0] = False
    with_fringe = _dilated(mask, 1) & (mask | ~everything)
    return np.where(keep[labels] & with_fringe, contrast, 0).astype(np.float32)


def without_scenery(mask: Mask) -> Mask:
    """Drop what runs along a side of the picture, as a table or a shadow does and a character doesn't."""
    peeled = _peeled(mask)
    labels = components(peeled)
    scenery = {0}
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        found, counts = np.unique(side, return_counts=True)
        scenery.update(found[counts > SCENERY_PART * len(side)].tolist())
    for kept in (peeled & ~np.isin(labels, list(scenery)), peeled):
        if _extent(kept) >= SMALLEST_PART * max(mask.shape):
            return kept
    return mask


def _peeled(mask: Mask) -> Mask:
    """Cut off the bands that cover whole sides, even where a character touches them."""
    peeled = mask.copy()
    for side in (peeled, peeled[::-1], peeled.T, peeled.T[::-1]):
        bands = side.mean(axis=1) > BAND_PART
        side[: int(np.argmin(np.append(bands, False)))] = False
    return peeled


def _extent(mask: Mask) -> int:
    """Return the longer side of the largest part's box, in pixels."""
    labels = components(mask)
    if not labels.any():
        return 0
    sizes = np.bincount(labels.ravel())
    rows, columns = np.nonzero(labels == sizes[1:].argmax() + 1)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1


def components(mask: Mask) -> NDArray[np.int64]:
    """Label the 8-connected parts of a mask: 0 outside, one number from 1 for each part.

    Runs of pixels are the nodes of a graph, its edges join runs that touch in neighboring rows, and the parts
    come by union-find. Rosenfeld, Pfaltz: Sequential operations in digital picture processing, JACM, 1966.
    """
    stride = mask.shape[1] + 2  # two columns of nothing, so that rows never touch
    flat = np.zeros((mask.shape[0], stride), dtype=np.int8)
    flat[:, 1:-1] = mask
    steps = np.diff(flat.ravel())
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    first = np.searchsorted(ends, starts - stride, side="left")
    last = np.searchsorted(starts, ends - stride, side="right")
    parts = _united(first.tolist(), last.tolist())
    labels = np.zeros(flat.size, dtype=np.int64)
    labels[np.flatnonzero(flat)] = np.repeat(parts, ends - starts)
    return labels.reshape(flat.shape)[:, 1:-1]


def _united(first: list[int], last: list[int]) -> NDArray[np.int64]:
    """Number the sets from 1, where node i is in one set with nodes first[i] to last[i]-1, all before it."""
    parent = list(range(len(first)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node, (low, high) in enumerate(zip(first, last, strict=True)):
        for other in range(low, high):
            parent[root(node)] = root(other)
    roots = np.array([root(node) for node in range(len(parent))], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1] + 1


def _dilated(mask: Mask, radius: int) -> Mask:
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(radius))
    return np.asarray(image) > 0
