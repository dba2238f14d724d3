"""Draw digits as people send them: `python -m benchmarks.pictures OUT_DIR --count 300 --seed 1`.

Every file's name tells its label and its scene, such as 0007_label-3_chalk.jpg.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.hands import any_hand, write

Rng = np.random.Generator
Floats = NDArray[np.float64]

INKS = [(20, 20, 25), (25, 40, 140), (15, 60, 170), (170, 25, 35), (20, 110, 50), (110, 40, 130), (90, 60, 30)]
PAPERS = [(255, 255, 255), (247, 244, 235), (252, 246, 200), (225, 238, 250), (250, 225, 228), (228, 245, 228), (205, 180, 140)]
BOARDS = [(32, 68, 52), (40, 42, 46), (22, 24, 28), (45, 60, 90)]
CHALKS = [(240, 240, 235), (245, 235, 150), (250, 190, 200), (170, 215, 250)]


@dataclass(frozen=True)
class Drawing:
    """A picture being made: where the ink is, on what, and how to save it."""

    coverage: Floats
    """[H, W], 0 paper to 1 ink."""
    paper: Floats
    """[H, W, 3], 0 to 255."""
    ink: tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """One drawn digit, as a file holds it."""

    label: int
    scene: str
    data: bytes
    extension: str

    def name(self, number: int) -> str:
        """Return the file's name, which tells the label and the scene."""
        return f"{number:04d}_label-{self.label}_{self.scene}.{self.extension}"


def draw(seed: int, count: int) -> list[Picture]:
    """Draw `count` digits; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    names = list(SCENES)
    return [draw_one(number % 10, names[(number // 10 + number) % len(names)], rng) for number in range(count)]


def draw_one(label: int, scene: str, rng: Rng) -> Picture:
    """Draw one digit in one of the SCENES."""
    data, extension = SCENES[scene](label, rng)
    return Picture(label, scene, data, extension)


# --- ink ---


def strokes(label: int, size: tuple[int, int], height: float, width: tuple[float, float], rng: Rng) -> Floats:
    """Return [H, W] coverage of a digit `height` high whose pen's width varies between two parts of `height`.

    It lies anywhere it fits in `size` (width, height).
    """
    _, paths = write(label, any_hand(rng), rng)
    reach = np.abs(np.concatenate(paths)).max(axis=0) * height + height * width[1] / 2 + 2
    low, high = reach, np.array(size) - reach
    center = np.where(low < high, rng.uniform(np.minimum(low, high), np.maximum(low, high)), np.array(size) / 2)
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


def blend(drawing: Drawing) -> Floats:
    """Lay the ink on the paper."""
    alpha = drawing.coverage[..., None]
    return drawing.paper * (1 - alpha) + np.array(drawing.ink) * alpha


def plain(size: tuple[int, int], color: tuple[int, int, int]) -> Floats:
    """Return [H, W, 3] of one color."""
    return np.tile(np.array(color, dtype=np.float64), (size[1], size[0], 1))


def grain(size: tuple[int, int], amount: float, blur: float, rng: Rng) -> Floats:
    """Return [H, W, 1] noise around 0 whose grains are about `blur` pixels."""
    noise = Image.fromarray(rng.normal(0, 1, size[::-1]).astype(np.float32))
    smooth = np.asarray(noise.resize((max(2, int(size[0] / blur)), max(2, int(size[1] / blur)))).resize(size))
    return (smooth / (smooth.std() + 1e-6) * amount)[..., None].astype(np.float64)


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
    result = slope * corners
    if shadow:
        edge, softness = rng.uniform(0.25, 0.75), rng.uniform(0.02, 0.15)
        across = x * np.cos(angle + 1) + y * np.sin(angle + 1)
        across = (across - across.min()) / (across.max() - across.min())
        result = result * (1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-(across - edge) / softness)))
    return result[..., None]


# --- the camera ---


def camera(pixels: Floats, rng: Rng, noise: float, blur: float) -> Image.Image:
    """Take the photograph: blur of the lens, noise of the sensor."""
    image = _image(pixels).filter(ImageFilter.GaussianBlur(blur))
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, noise, pixels.shape)
    return _image(noisy)


def _image(pixels: Floats) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))


def encode(image: Image.Image, extension: str, rng: Rng) -> tuple[bytes, str]:
    """Save as a file of that kind; JPEG at any quality that phones and messengers use."""
    buffer = io.BytesIO()
    options = {"png": {}, "jpg": {"quality": int(rng.integers(35, 92))}, "webp": {"quality": int(rng.integers(40, 90))}}
    image.save(buffer, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[extension], **options[extension])
    return buffer.getvalue(), extension


def _size(rng: Rng, low: int = 160, high: int = 640) -> tuple[int, int]:
    width = int(rng.integers(low, high))
    return width, int(width * rng.uniform(0.75, 1.4))


def _pick(colors: list[tuple[int, int, int]], rng: Rng) -> tuple[int, int, int]:
    return colors[int(rng.integers(len(colors)))]


# --- scenes ---


def _on_paper(
    label: int, rng: Rng, width: tuple[float, float], part: tuple[float, float], lines: str = "", shadow: bool = False
) -> tuple[bytes, str]:
    """Photograph ink on paper; `part` of the shorter side is the digit's height."""
    size = _size(rng)
    height = min(size) * rng.uniform(*part)
    coverage = strokes(label, size, height, width, rng)
    paper = plain(size, _pick(PAPERS, rng)) + grain(size, rng.uniform(0.5, 3), rng.uniform(1, 4), rng)
    if lines:
        paper = rules(paper, height * rng.uniform(0.35, 1.1), lines == "grid", rng)
    pixels = blend(Drawing(coverage, paper, _pick(INKS, rng))) * light(size, rng, shadow)
    image = camera(pixels, rng, noise=rng.uniform(1, 7), blur=rng.uniform(0, 0.006) * height)
    return encode(image, str(rng.choice(["jpg", "jpg", "webp", "png"])), rng)


def pen(label: int, rng: Rng) -> tuple[bytes, str]:
    """A ballpoint on paper."""
    return _on_paper(label, rng, (0.02, 0.045), (0.25, 0.6))


def marker(label: int, rng: Rng) -> tuple[bytes, str]:
    """A felt marker on paper."""
    return _on_paper(label, rng, (0.1, 0.16), (0.3, 0.7))


def brush(label: int, rng: Rng) -> tuple[bytes, str]:
    """A brush on paper, thick where it is pressed."""
    return _on_paper(label, rng, (0.04, 0.2), (0.3, 0.7))


def ruled(label: int, rng: Rng) -> tuple[bytes, str]:
    """A pen in an exercise book."""
    return _on_paper(label, rng, (0.03, 0.08), (0.2, 0.5), lines="ruled")


def grid(label: int, rng: Rng) -> tuple[bytes, str]:
    """A pen on squared paper."""
    return _on_paper(label, rng, (0.03, 0.08), (0.2, 0.5), lines="grid")


def shadow(label: int, rng: Rng) -> tuple[bytes, str]:
    """A pen on paper, with the shadow of a hand or a phone."""
    return _on_paper(label, rng, (0.04, 0.11), (0.3, 0.6), shadow=True)


def small(label: int, rng: Rng) -> tuple[bytes, str]:
    """A little digit on a large sheet."""
    return _on_paper(label, rng, (0.05, 0.1), (0.1, 0.18))


def large(label: int, rng: Rng) -> tuple[bytes, str]:
    """A digit that fills the picture."""
    return _on_paper(label, rng, (0.06, 0.14), (0.8, 0.93))


def chalk(label: int, rng: Rng) -> tuple[bytes, str]:
    """Chalk on a board that was wiped before."""
    size = _size(rng)
    height = min(size) * rng.uniform(0.3, 0.7)
    coverage = strokes(label, size, height, (0.05, 0.11), rng)
    crumbs = np.clip(0.75 + grain(size, rng.uniform(0.1, 0.35), 2, rng)[..., 0], 0, 1)
    board = plain(size, _pick(BOARDS, rng)) + grain(size, rng.uniform(2, 7), min(size) / 6, rng)
    pixels = blend(Drawing(coverage * crumbs, board, _pick(CHALKS, rng))) * light(size, rng, shadow=False)
    return encode(camera(pixels, rng, rng.uniform(1, 6), rng.uniform(0.2, 1.0)), "jpg", rng)


def pencil(label: int, rng: Rng) -> tuple[bytes, str]:
    """A pencil on rough paper: grey and broken."""
    size = _size(rng)
    height = min(size) * rng.uniform(0.3, 0.6)
    coverage = strokes(label, size, height, (0.025, 0.05), rng)
    rough = np.clip(0.7 + grain(size, 0.25, 1.5, rng)[..., 0], 0, 1)
    paper = plain(size, PAPERS[int(rng.integers(2))]) + grain(size, rng.uniform(1, 4), 2, rng)
    pixels = blend(Drawing(coverage * rough, paper, (85, 85, 90))) * light(size, rng, shadow=False)
    return encode(camera(pixels, rng, rng.uniform(1, 5), rng.uniform(0.2, 0.8)), "jpg", rng)


def screen(label: int, rng: Rng) -> tuple[bytes, str]:
    """A finger on a drawing app: even colors, light or dark, any two of them."""
    size = _size(rng, 64, 400)
    height = min(size) * rng.uniform(0.4, 0.9)
    width = rng.uniform(0.05, 0.13)
    coverage = strokes(label, size, height, (width, width), rng)
    dark = rng.random() < 0.4
    paper, ink = (_pick(BOARDS, rng), _pick(CHALKS, rng)) if dark else (_pick(PAPERS, rng), _pick(INKS, rng))
    return encode(_image(blend(Drawing(coverage, plain(size, paper), ink))), "png", rng)


def transparent(label: int, rng: Rng) -> tuple[bytes, str]:
    """A sticker: ink on nothing, with an alpha channel."""
    size = _size(rng, 96, 400)
    width = rng.uniform(0.05, 0.12)
    coverage = strokes(label, size, min(size) * rng.uniform(0.4, 0.9), (width, width), rng)
    ink = _pick(CHALKS if rng.random() < 0.4 else INKS, rng)
    pixels = np.dstack([plain(size, ink), coverage * 255])
    return encode(_image(pixels), str(rng.choice(["png", "webp"])), rng)


def thumbnail(label: int, rng: Rng) -> tuple[bytes, str]:
    """A picture of few pixels."""
    size = _size(rng, 28, 56)
    coverage = strokes(label, size, min(size) * rng.uniform(0.55, 0.85), (0.09, 0.14), rng)
    pixels = blend(Drawing(coverage, plain(size, _pick(PAPERS, rng)), _pick(INKS, rng))) * light(size, rng, shadow=False)
    return encode(camera(pixels, rng, rng.uniform(0, 4), 0), str(rng.choice(["png", "jpg"])), rng)


def dirty(label: int, rng: Rng) -> tuple[bytes, str]:
    """Ink on paper with specks, and the edge of the sheet on a darker table."""
    size = _size(rng)
    height = min(size) * rng.uniform(0.3, 0.5)
    coverage = strokes(label, size, height, (0.05, 0.11), rng)
    specks = Image.new("L", size)
    pen = ImageDraw.Draw(specks)
    for _ in range(int(rng.integers(3, 15))):
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.3, 0.025 * height + 0.6)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(90, 255)))
    coverage = np.maximum(coverage, np.asarray(specks) / 255)
    paper = plain(size, _pick(PAPERS[:4], rng)) + grain(size, 2, 2, rng)
    pixels = blend(Drawing(coverage, paper, _pick(INKS, rng)))
    edge = int(rng.uniform(0.01, 0.05) * size[0])
    pixels[:, :edge] = np.array([105, 80, 60])
    return encode(camera(pixels * light(size, rng, shadow=False), rng, rng.uniform(1, 6), 0.6), "jpg", rng)


SCENES: dict[str, Callable[[int, Rng], tuple[bytes, str]]] = {
    scene.__name__: scene
    for scene in (
        pen, marker, brush, ruled, grid, shadow, small, large, chalk, pencil, screen, transparent, thumbnail, dirty
    )
}  # fmt: skip


def main() -> None:
    """Write the pictures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(draw(arguments.seed, arguments.count)):
        (arguments.folder / picture.name(number)).write_bytes(picture.data)
    print(f"{arguments.count} pictures in {arguments.folder}")


if __name__ == "__main__":
    main()
