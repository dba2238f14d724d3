"""The scenes that digits are drawn in: ink on paper, chalk on a board, a screen, and the camera's faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.drawing import Color, Rng, blend, camera, encode, grain, light, picture, plain, rules, strokes

INKS = [
    (20, 20, 25),
    (25, 40, 140),
    (15, 60, 170),
    (170, 25, 35),
    (20, 110, 50),
    (110, 40, 130),
    (90, 60, 30),
]
PAPERS = [
    (255, 255, 255),
    (247, 244, 235),
    (252, 246, 200),
    (225, 238, 250),
    (250, 225, 228),
    (228, 245, 228),
    (205, 180, 140),
]
BOARDS = [(32, 68, 52), (40, 42, 46), (22, 24, 28), (45, 60, 90)]
CHALKS = [(240, 240, 235), (245, 235, 150), (250, 190, 200), (170, 215, 250)]


def _size(rng: Rng, low: int = 160, high: int = 640) -> tuple[int, int]:
    width = int(rng.integers(low, high))
    return width, int(width * rng.uniform(0.75, 1.4))


def _pick(colors: list[Color], rng: Rng) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _on_paper(
    label: int,
    rng: Rng,
    width: tuple[float, float],
    part: tuple[float, float],
    lines: str = "",
    shadow: bool = False,
) -> tuple[bytes, str]:
    """Photograph ink on paper; `part` of the shorter side is the digit's height."""
    size = _size(rng)
    height = min(size) * rng.uniform(*part)
    coverage = strokes(label, size, height, width, rng)
    paper = plain(size, _pick(PAPERS, rng)) + grain(size, rng.uniform(0.5, 3), rng.uniform(1, 4), rng)
    if lines:
        paper = rules(paper, height * rng.uniform(0.35, 1.1), lines == "grid", rng)
    pixels = blend(coverage, paper, _pick(INKS, rng)) * light(size, rng, shadow)
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
    pixels = blend(coverage * crumbs, board, _pick(CHALKS, rng)) * light(size, rng, shadow=False)
    return encode(camera(pixels, rng, rng.uniform(1, 6), rng.uniform(0.2, 1.0)), "jpg", rng)


def pencil(label: int, rng: Rng) -> tuple[bytes, str]:
    """A pencil on rough paper: grey and broken."""
    size = _size(rng)
    height = min(size) * rng.uniform(0.3, 0.6)
    coverage = strokes(label, size, height, (0.025, 0.05), rng)
    rough = np.clip(0.7 + grain(size, 0.25, 1.5, rng)[..., 0], 0, 1)
    paper = plain(size, PAPERS[int(rng.integers(2))]) + grain(size, rng.uniform(1, 4), 2, rng)
    pixels = blend(coverage * rough, paper, (85, 85, 90)) * light(size, rng, shadow=False)
    return encode(camera(pixels, rng, rng.uniform(1, 5), rng.uniform(0.2, 0.8)), "jpg", rng)


def screen(label: int, rng: Rng) -> tuple[bytes, str]:
    """A finger on a drawing app: even colors, light or dark, any two of them."""
    size = _size(rng, 64, 400)
    height = min(size) * rng.uniform(0.4, 0.9)
    width = rng.uniform(0.05, 0.13)
    coverage = strokes(label, size, height, (width, width), rng)
    dark = rng.random() < 0.4
    paper, ink = (_pick(BOARDS, rng), _pick(CHALKS, rng)) if dark else (_pick(PAPERS, rng), _pick(INKS, rng))
    return encode(picture(blend(coverage, plain(size, paper), ink)), "png", rng)


def transparent(label: int, rng: Rng) -> tuple[bytes, str]:
    """A sticker: ink on nothing, with an alpha channel."""
    size = _size(rng, 96, 400)
    width = rng.uniform(0.05, 0.12)
    coverage = strokes(label, size, min(size) * rng.uniform(0.4, 0.9), (width, width), rng)
    ink = _pick(CHALKS if rng.random() < 0.4 else INKS, rng)
    pixels = np.dstack([plain(size, ink), coverage * 255])
    return encode(picture(pixels), str(rng.choice(["png", "webp"])), rng)


def thumbnail(label: int, rng: Rng) -> tuple[bytes, str]:
    """A picture of few pixels."""
    size = _size(rng, 28, 56)
    coverage = strokes(label, size, min(size) * rng.uniform(0.55, 0.85), (0.09, 0.14), rng)
    pixels = blend(coverage, plain(size, _pick(PAPERS, rng)), _pick(INKS, rng))
    pixels *= light(size, rng, shadow=False)
    return encode(camera(pixels, rng, rng.uniform(0, 4), 0), str(rng.choice(["png", "jpg"])), rng)


def dim(label: int, rng: Rng) -> tuple[bytes, str]:
    """A lamp at night: dark, flat and noisy."""
    size = _size(rng)
    height = min(size) * rng.uniform(0.3, 0.6)
    coverage = strokes(label, size, height, (0.05, 0.11), rng)
    pixels = blend(coverage, plain(size, _pick(PAPERS, rng)), _pick(INKS, rng)) * light(
        size, rng, shadow=False
    )
    dark = rng.uniform(0.25, 0.5) * pixels + 20
    return encode(camera(dark, rng, rng.uniform(5, 12), rng.uniform(0.005, 0.015) * height), "jpg", rng)


def photo(label: int, rng: Rng) -> tuple[bytes, str]:
    """A phone's picture of many pixels: a pen on a sheet."""
    size = _size(rng, 1200, 1700)
    height = min(size) * rng.uniform(0.15, 0.5)
    coverage = strokes(label, size, height, (0.025, 0.06), rng)
    paper = plain(size, _pick(PAPERS, rng)) + grain(size, 3, 3, rng)
    pixels = blend(coverage, paper, _pick(INKS, rng)) * light(size, rng, shadow=True)
    return encode(camera(pixels, rng, rng.uniform(2, 8), rng.uniform(1, 3)), "jpg", rng)


def dirty(label: int, rng: Rng) -> tuple[bytes, str]:
    """Ink on paper with specks, and the edge of the sheet on a darker table."""
    size = _size(rng)
    height = min(size) * rng.uniform(0.3, 0.5)
    coverage = strokes(label, size, height, (0.05, 0.11), rng)
    specks = Image.new("L", size)
    pen = ImageDraw.Draw(specks)
    for _ in range(int(rng.integers(3, 15))):
        x, y = rng.uniform((0, 0), size)
        radius = rng.uniform(0.3, 0.025 * height + 0.6)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(90, 255)))
    coverage = np.maximum(coverage, np.asarray(specks) / 255)
    paper = plain(size, _pick(PAPERS[:4], rng)) + grain(size, 2, 2, rng)
    pixels = blend(coverage, paper, _pick(INKS, rng))
    edge = int(rng.uniform(0.01, 0.05) * size[0])
    pixels[:, :edge] = np.array([105, 80, 60])
    return encode(camera(pixels * light(size, rng, shadow=False), rng, rng.uniform(1, 6), 0.6), "jpg", rng)


_ON_PAPER = (pen, marker, brush, ruled, grid, shadow, small, large, pencil, dim, photo, dirty)
_ELSEWHERE = (chalk, screen, transparent, thumbnail)
SCENES: dict[str, Callable[[int, Rng], tuple[bytes, str]]] = {
    scene.__name__: scene for scene in (*_ON_PAPER, *_ELSEWHERE)
}
