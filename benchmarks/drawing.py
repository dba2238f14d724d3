"""Ink, paper, light and camera: what a scene with a drawn digit is made of."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.hands import any_hand, write

Rng = np.random.Generator
Floats = NDArray[np.float64]
Color = tuple[int, int, int]

# --- ink ---


def strokes(label: int, size: tuple[int, int], height: float, width: tuple[float, float], rng: Rng) -> Floats:
    """Return [H, W] coverage of a digit `height` high whose pen's width varies between two parts of `height`.

    It lies anywhere it fits in `size` (width, height).
    """
    _, paths = write(label, any_hand(rng), rng)
    reach = np.abs(np.concatenate(paths)).max(axis=0) * height + height * width[1] / 2 + 2
    low, high = reach, np.array(size) - reach
    center = np.where(
        low < high, rng.uniform(np.minimum(low, high), np.maximum(low, high)), np.array(size) / 2
    )
    scale = 2
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    pen = ImageDraw.Draw(canvas)
    for path in paths:
        points = (path * height + center) * scale
        _pull(pen, points, _pressure(len(points), width, rng) * height * scale)
    return np.asarray(canvas.reduce(scale), dtype=np.float64) / 255


def _pressure(count: int, width: tuple[float, float], rng: Rng) -> Floats:
    """Return the pen's width along a stroke: a slow random wave between two bounds."""
    wave = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, 6), rng.uniform(0, 1, 6))
    return width[0] + (width[1] - width[0]) * wave


def _pull(pen: ImageDraw.ImageDraw, points: Floats, widths: Floats) -> None:
    for (x0, y0), (x1, y1), width in zip(points[:-1], points[1:], widths[1:], strict=True):
        steps = int(max(abs(x1 - x0), abs(y1 - y0)) / max(width / 4, 0.5)) + 1
        radius = max(width / 2, 0.7)
        for step in np.linspace(0, 1, steps):
            x, y = x0 + (x1 - x0) * step, y0 + (y1 - y0) * step
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


# --- paper and light ---


def blend(coverage: Floats, paper: Floats, ink: Color) -> Floats:
    """Lay ink on paper [H, W, 3] where it covers it, [H, W] from 0 to 1."""
    alpha = coverage[..., None]
    return paper * (1 - alpha) + np.array(ink, dtype=np.float64) * alpha


def plain(size: tuple[int, int], color: Color) -> Floats:
    """Return [H, W, 3] of one color."""
    return np.tile(np.array(color, dtype=np.float64), (size[1], size[0], 1))


def grain(size: tuple[int, int], amount: float, blur: float, rng: Rng) -> Floats:
    """Return [H, W, 1] noise around 0 whose grains are about `blur` pixels."""
    noise = Image.fromarray(rng.normal(0, 1, size[::-1]).astype(np.float32))
    smooth = np.asarray(noise.resize((max(2, int(size[0] / blur)), max(2, int(size[1] / blur)))).resize(size))
    scaled: Floats = smooth.astype(np.float64) / (smooth.std() + 1e-6) * amount
    return scaled[..., None]


def rules(paper: Floats, spacing: float, grid: bool, rng: Rng) -> Floats:
    """Print faint lines on the paper, ruled or a grid."""
    height, width = paper.shape[:2]
    color = np.array([150, 175, 215]) if rng.random() < 0.7 else np.array([190, 190, 190])
    strength = rng.uniform(0.35, 0.8)
    thickness = max(1, round(spacing / 30))
    lined = paper.copy()
    offset = rng.uniform(0, spacing)
    for start in np.arange(offset, height, spacing).astype(int):
        lined[start : start + thickness] += (color - lined[start : start + thickness]) * strength
    if grid:
        for start in np.arange(offset, width, spacing).astype(int):
            lined[:, start : start + thickness] += (color - lined[:, start : start + thickness]) * strength
    return lined


def light(size: tuple[int, int], rng: Rng, shadow: bool) -> Floats:
    """Return [H, W, 1] brightness: a slope, the lens's dark corners, and the soft edge of a shadow."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    along = (along - along.min()) / (along.max() - along.min())
    slope = 1 - rng.uniform(0.05, 0.45) * along
    corners = 1 - rng.uniform(0, 0.25) * ((x - x.mean()) ** 2 + (y - y.mean()) ** 2) / 0.5
    result: Floats = slope * corners
    if shadow:
        edge, softness = rng.uniform(0.25, 0.75), rng.uniform(0.02, 0.15)
        across = x * np.cos(angle + 1) + y * np.sin(angle + 1)
        across = (across - across.min()) / (across.max() - across.min())
        result = result * (1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-(across - edge) / softness)))
    return result[..., None]


# --- the camera ---


def camera(pixels: Floats, rng: Rng, noise: float, blur: float) -> Image.Image:
    """Take the photograph: blur of the lens, noise of the sensor."""
    image = picture(pixels).filter(ImageFilter.GaussianBlur(blur))
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, noise, pixels.shape)
    return picture(noisy)


def picture(pixels: Floats) -> Image.Image:
    """Round to 8 bits."""
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))


def encode(image: Image.Image, extension: str, rng: Rng) -> tuple[bytes, str]:
    """Save as a file of that kind; JPEG at any quality that phones and messengers use."""
    buffer = io.BytesIO()
    options = {
        "png": {},
        "jpg": {"quality": int(rng.integers(35, 92))},
        "webp": {"quality": int(rng.integers(40, 90))},
    }
    image.save(buffer, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[extension], **options[extension])
    return buffer.getvalue(), extension
