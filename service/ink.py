"""Find the ink of a handwritten character in a picture, and frame it as MNIST's digits are framed.

The frame is that of LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition,
Proceedings of the IEEE 86(11), 1998, section III.A, and of the page "The MNIST database of handwritten digits":
the character fits a box of 20x20 with its aspect kept, and its center of mass is the center of the input. What
comes before it makes photographs into what that recipe expects: ink and nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

COARSE_SIDE = 256
"""Pixels on the longer side of the picture in which the ink is looked for first."""
FINE_SIDE = 160
"""... and of the part around it in which it is looked at closely."""
MARGIN = 0.35
"""What of the paper around the ink is looked at closely, as a part of the ink's longer side."""
INK_LEVEL = 0.4
"""Contrast from which a pixel is ink."""
NOISE_SIGMAS = 4.0
"""Contrast that the background may have, in standard deviations of its noise."""
DARKEST_PIXELS = 24
"""How many pixels tell how dark ink can be; half of them may be specks."""
FLAT_LEVELS = 3.0
"""Difference of 8-bit levels within which a background is called even."""
SCENERY_PART = 0.35
"""What runs along more of a side of the picture than this is no character."""
MAIN_PART = 0.12
"""A stroke apart is of the character if it has this part of the ink that the largest one has."""
SUPERSAMPLING = 4
STROKE_WIDTHS = (1.8, 4.0)
"""Widths of pen strokes that MNIST has, in pixels of its 28x28."""


def frame_ink(picture: NDArray[np.uint8], height: int, width: int, box: int) -> Floats:
    """Return [height, width] with the ink of a picture [H, W, C] in its middle, 0 background to 1 ink.

    A picture without ink gives all background. One that already is framed comes back as it is, padded.
    """
    coarse = _reduced(picture, COARSE_SIDE)
    contrast = ink_contrast(coarse)
    if is_framed(contrast, height, width, box):
        return _padded(contrast, height, width)
    ink = main_ink(contrast)
    bounds = _bounds(ink)
    if bounds is None:
        return np.zeros((height, width), dtype=np.float32)
    part = _part(picture, bounds, coarse.shape[0] / picture.shape[0])
    if part.shape != picture.shape:
        closer = main_ink(ink_contrast(_reduced(part, FINE_SIDE)))
        ink = closer if closer.any() else ink
    return _framed(ink, height, width, box)


# --- contrast: what of the picture differs from its background ---


def ink_contrast(picture: NDArray[np.uint8]) -> Floats:
    """Return [H, W]: 0 where the picture [H, W, C] is background, about 1 where it is ink, of whatever colors."""
    difference = picture.astype(np.float32) - background(picture)
    signed = along_main_axis(difference)
    signed *= polarity(signed)
    noise = float(np.median(np.abs(signed))) * 1.4826  # of a normal distribution: its standard deviation
    peak = _ink_level(signed, noise)
    floor = min(NOISE_SIGMAS * noise, 0.3 * peak)
    if peak < 12:
        return np.zeros_like(signed)
    return np.clip((signed - floor) / (peak - floor), 0, 1)


def background(picture: NDArray[np.uint8]) -> Floats:
    """Return the background, [H, W, C] or [C]: one color if the rim has one, else a smooth surface."""
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).astype(np.float32)
    color = np.median(rim, axis=0)
    if (np.abs(rim - color).max(axis=1) <= FLAT_LEVELS).mean() > 0.9:
        return np.asarray(color, dtype=np.float32)
    return _smooth_surface(picture)


def _smooth_surface(picture: NDArray[np.uint8]) -> Floats:
    """Fit a quadratic surface to each channel, by least squares reweighted so that ink doesn't count (Tukey)."""
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
    surface = _quadratic(np.arange(height) / height, np.arange(width) / width) @ coefficients
    return surface.reshape(height, width, channels).astype(np.float32)


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
    darkest = np.partition(signed.ravel(), -DARKEST_PIXELS)[-DARKEST_PIXELS:] if signed.size > DARKEST_PIXELS else signed
    level = float(np.median(darkest))
    ink = signed[signed > max(NOISE_SIGMAS * noise, 0.5 * level)]
    return float(np.percentile(ink, 75)) if ink.size else 0.0


# --- the character: which of the contrast is it ---


def main_ink(contrast: Floats) -> Floats:
    """Keep the character: the strokes with most ink, and those with a part of it; no specks, no paper's edge."""
    mask = without_scenery(contrast > INK_LEVEL)
    if not mask.any():
        return np.zeros_like(contrast)
    labels = components(_dilated(mask, max(1, max(mask.shape) // 80)))
    ink = np.bincount(labels.ravel(), weights=(contrast * mask).ravel())
    keep = ink >= MAIN_PART * ink.max()
    keep[0] = False
    return np.where(keep[labels] & _dilated(mask, 1), contrast, 0).astype(np.float32)


def without_scenery(mask: Mask) -> Mask:
    """Drop what runs along a side of the picture, as a table or a shadow does and a character doesn't."""
    labels = components(mask)
    scenery = {0}
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        found, counts = np.unique(side, return_counts=True)
        scenery.update(found[counts > SCENERY_PART * len(side)].tolist())
    kept = mask & ~np.isin(labels, list(scenery))
    return kept if kept.any() else mask


def components(mask: Mask) -> NDArray[np.int64]:
    """Label the 8-connected parts of a mask: 0 outside, one number from 1 for each part.

    Runs of pixels are the nodes of a graph, runs that touch in neighboring rows its edges, and the parts come by
    union-find. Rosenfeld and Pfaltz: Sequential operations in digital picture processing, JACM 13(4), 1966.
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
    """Number the sets of nodes from 1, where node i is in one set with nodes first[i] to last[i]-1, all below i."""
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


def _bounds(ink: Floats) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left, right (ends excluded) of what is ink."""
    mask = ink > INK_LEVEL
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _part(picture: NDArray[np.uint8], bounds: tuple[int, int, int, int], scale: float) -> NDArray[np.uint8]:
    """Cut the bounds, which are in a copy of the picture made smaller by `scale`, with a margin around."""
    top, bottom, left, right = (bound / scale for bound in bounds)
    margin = MARGIN * max(bottom - top, right - left) + 2 / scale
    rows = slice(max(0, int(top - margin)), int(bottom + margin) + 1)
    columns = slice(max(0, int(left - margin)), int(right + margin) + 1)
    return picture[rows, columns]


def _reduced(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Average whole blocks of pixels, so that the longer side is at most `side`."""
    factor = -(-max(picture.shape) // side)
    if factor <= 1:
        return picture
    plain = picture[..., 0] if picture.shape[2] == 1 else picture
    reduced = np.asarray(Image.fromarray(plain).reduce(factor))
    return reduced.reshape(*reduced.shape[:2], picture.shape[2])


# --- the frame ---


def is_framed(contrast: Floats, height: int, width: int, box: int) -> bool:
    """Tell whether the ink already is in MNIST's frame, or in that frame padded to the model's input."""
    padding = height - (box + 8)
    if contrast.shape not in ((height, width), (height - padding, width - padding)):
        return False
    rows, columns = (np.flatnonzero(contrast.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return False
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    y, x = _center_of_mass(contrast)
    return bool(
        box - 2 <= longer <= box
        and abs(y - contrast.shape[0] / 2) < 1.5
        and abs(x - contrast.shape[1] / 2) < 1.5
    )


def _padded(values: Floats, height: int, width: int) -> Floats:
    rows, columns = height - values.shape[0], width - values.shape[1]
    return np.pad(values, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)))


def _center_of_mass(ink: Floats) -> tuple[float, float]:
    """Return row and column, where 0 is the outer edge of the first pixel."""
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    total = float(rows.sum())
    y = float(rows @ np.arange(0.5, len(rows))) / total
    x = float(columns @ np.arange(0.5, len(columns))) / total
    return y, x


def _framed(ink: Floats, height: int, width: int, box: int) -> Floats:
    """Scale the ink into the box, bring its strokes to MNIST's width, and center it by its mass."""
    bounds = _bounds(ink)
    assert bounds is not None  # noqa: S101 - the caller has ink
    top, bottom, left, right = bounds
    scale = max(bottom - top, right - left) / box
    y, x = _center_of_mass(ink)
    large = _window(ink, y, x, height * scale, width * scale, (height * SUPERSAMPLING, width * SUPERSAMPLING))
    large = _stroke_normalized(large)
    framed = np.asarray(Image.fromarray(large).reduce(SUPERSAMPLING))
    return np.clip(framed, 0, 1)


def _window(ink: Floats, y: float, x: float, height: float, width: float, size: tuple[int, int]) -> Floats:
    """Resample the window of `height` by `width` around (y, x), which may reach beyond the ink's array."""
    pad = int(max(height, width)) + 1
    image = Image.fromarray(np.pad(ink, pad))
    box = (x - width / 2 + pad, y - height / 2 + pad, x + width / 2 + pad, y + height / 2 + pad)
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def _stroke_normalized(large: Floats) -> Floats:
    """Thicken hairlines and thin heavy strokes until their width is one that MNIST has."""
    for _ in range(8):
        measured = stroke_width(large) / SUPERSAMPLING
        thinnest, thickest = STROKE_WIDTHS
        if measured < thinnest:
            large = np.asarray(Image.fromarray(large).filter(ImageFilter.MaxFilter(3)))
        elif measured > thickest:
            large = np.asarray(Image.fromarray(large).filter(ImageFilter.MinFilter(3)))
        else:
            break
    return large


def stroke_width(ink: Floats) -> float:
    """Return the mean width of the strokes, in pixels: twice the area over the length of the outline."""
    mask = ink > 0.5
    padded = np.pad(mask, 1)
    outline = int((padded[1:] != padded[:-1]).sum()) + int((padded[:, 1:] != padded[:, :-1]).sum())
    # Counted along the grid, an outline of all directions is 4/pi times too long.
    return 2 * float(mask.sum()) / (outline * np.pi / 4) if outline else 0.0
