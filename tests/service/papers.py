"""Pictures as people send them of the digits in samples/mnist: framed, on a desk, in boxes, above lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

SAMPLES = sorted((Path(__file__).parents[2] / "samples" / "mnist").glob("*.png"))
SIDE = 420
INK = 35

Draw = Callable[[Image.Image], Image.Image]


def sheet(sample: Path) -> Image.Image:
    """The digit in black on a white sheet."""
    digit = ImageOps.invert(Image.open(sample).convert("L").resize((260, 260)))
    return ImageOps.expand(digit, (SIDE - 260) // 2, 255)


def blank() -> Image.Image:
    return Image.new("L", (SIDE, SIDE), 255)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def framed(border: int | tuple[int, ...], fill: int | tuple[int, ...]) -> Draw:
    return lambda paper: ImageOps.expand(
        paper.convert("RGB") if isinstance(fill, tuple) else paper, border, fill
    )


def turned(draw: Draw, degrees: float, fill: int) -> Draw:
    return lambda paper: draw(paper).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)


def with_lines(*lines: tuple[int, int, int, int], width: int = 5) -> Draw:
    def draw(paper: Image.Image) -> Image.Image:
        lined = paper.copy()
        for line in lines:
            ImageDraw.Draw(lined).line(line, INK, width)
        return lined

    return draw


def boxed(inset: int, width: int = 4, degrees: float = 0) -> Draw:
    def draw(paper: Image.Image) -> Image.Image:
        box = Image.new("L", paper.size, 255)
        corners = (inset, inset, SIDE - inset, SIDE - inset)
        ImageDraw.Draw(box).rectangle(corners, outline=INK, width=width)
        box = box.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=255)
        return Image.fromarray(np.minimum(np.asarray(paper), np.asarray(box)))

    return draw


def dashed_box(paper: Image.Image) -> Image.Image:
    dashed = paper.copy()
    pen = ImageDraw.Draw(dashed)
    for at in range(46, SIDE - 60, 24):
        for x, y in ((at, 46), (at, SIDE - 46)):
            pen.line((x, y, x + 14, y), INK, 4)
            pen.line((y, x, y, x + 14), INK, 4)
    return dashed


def rounded(paper: Image.Image) -> Image.Image:
    mask = Image.new("L", paper.size)
    ImageDraw.Draw(mask).rounded_rectangle((16, 16, SIDE - 16, SIDE - 16), 50, fill=255)
    return Image.composite(paper, Image.new("L", paper.size, 60), mask)


def on_wood(paper: Image.Image) -> Image.Image:
    random = np.random.default_rng(4)
    grain = Image.fromarray(random.normal(0, 14, (200, 12)).astype(np.float32)).resize((640, 600))
    board = np.array([150, 105, 65]) + np.asarray(grain)[..., None] * [1, 0.8, 0.6]
    wood = Image.fromarray(board.clip(0, 255).astype(np.uint8))
    tilted = paper.convert("RGBA").rotate(-8, Image.Resampling.BILINEAR, expand=True)
    wood.paste(tilted, (70, 60), tilted)
    return wood


def polaroid(paper: Image.Image) -> Image.Image:
    card = Image.new("L", (SIDE + 60, SIDE + 140), 238)
    card.paste(ImageOps.invert(paper), (30, 30))
    return ImageOps.expand(card, 50, 110)


def vignette(paper: Image.Image) -> Image.Image:
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return Image.fromarray(
        (np.asarray(paper) * np.clip(1.25 - 0.45 * (x * x + y * y), 0, 1)).astype(np.uint8)
    )


def inverted(draw: Draw) -> Draw:
    return lambda paper: ImageOps.invert(draw(paper))


AROUND: dict[str, Draw] = {
    "plain": lambda paper: paper,
    "frame of 1 pixel": framed(1, 0),
    "frame of 4 pixels": framed(4, 0),
    "broad frame": framed(40, 0),
    "grey frame": framed(35, 120),
    "blue frame": framed(20, (30, 60, 200)),
    "uneven frame": framed((4, 40, 20, 10), 0),
    "two frames": lambda paper: framed(10, 60)(framed(18, 255)(framed(3, 0)(paper))),
    "desk": framed(60, 90),
    "tilted on a desk": turned(framed(60, 90), 4, 90),
    "tilted on wood": on_wood,
    "letterbox": framed((0, 70, 0, 70), 0),
    "pillarbox": framed((70, 0, 70, 0), 0),
    "rounded corners": rounded,
    "polaroid": polaroid,
    "vignette": vignette,
}
"""What is around a sheet, on which there is a digit or nothing."""
ON_PAPER: dict[str, Draw] = {
    "box": boxed(50),
    "tilted box": boxed(66, degrees=6),
    "thick box": boxed(30, width=20),
    "two boxes": lambda paper: boxed(58, 3)(boxed(44)(paper)),
    "dashed box": dashed_box,
    "box on a desk": turned(lambda paper: framed(50, 90)(boxed(50)(paper)), 4, 90),
    "line below": with_lines((60, 372, 360, 372)),
    "short line below": with_lines((130, 366, 290, 370)),
    "two lines below": with_lines((80, 365, 340, 365), (80, 385, 340, 385)),
    "lines above and below": with_lines((70, 45, 350, 45), (70, 372, 350, 372)),
    "ruled lines": with_lines((0, 40, 420, 40), (0, 365, 420, 365), (0, 400, 420, 400), width=3),
    "tilted line below": with_lines((70, 385, 350, 360)),
}
"""What is on a sheet, beside the digit."""
DRAWINGS = (
    AROUND
    | ON_PAPER
    | {
        f"{name}, inverted": inverted({**AROUND, **ON_PAPER}[name])
        for name in ("plain", "frame of 4 pixels", "tilted on a desk", "letterbox", "box", "line below")
    }
)
