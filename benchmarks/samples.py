"""Draw the pictures of `samples/handwritten`: `python -m benchmarks.samples OUT_DIR`.

Dark ink on light paper, off center, in color: digits as a phone would send them, none of them from MNIST.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.drawing import Color, blend, camera, grain, light, plain, rules, strokes


@dataclass(frozen=True)
class Sample:
    """One picture: what is written with what on what."""

    label: int
    name: str
    seed: int
    size: tuple[int, int]
    height: float
    pen: tuple[float, float]
    ink: Color
    paper: Color
    ruled: bool = False


SAMPLES = (
    Sample(3, "3.png", 3, (240, 200), 96, (0.06, 0.1), (24, 44, 148), (250, 247, 238)),
    Sample(5, "5.jpg", 8, (420, 320), 150, (0.05, 0.09), (150, 26, 40), (236, 243, 250), ruled=True),
    Sample(8, "8.webp", 5, (360, 440), 190, (0.08, 0.12), (20, 96, 52), (252, 244, 205)),
)
_OPTIONS: dict[str, dict[str, int]] = {
    ".png": {"optimize": True},
    ".jpg": {"quality": 82},
    ".webp": {"quality": 80},
}


def draw(sample: Sample) -> bytes:
    """Draw one sample as its file; the same one every time."""
    rng = np.random.default_rng(sample.seed)
    coverage = strokes(sample.label, sample.size, sample.height, sample.pen, rng)
    paper = plain(sample.size, sample.paper) + grain(sample.size, 1.2, 3, rng)
    paper = rules(paper, sample.height / 3, False, rng) if sample.ruled else paper
    image = camera(blend(coverage, paper, sample.ink) * light(sample.size, rng, shadow=False), rng, 0.8, 0.5)
    return _encoded(image, Path(sample.name).suffix)


def _encoded(image: Image.Image, suffix: str) -> bytes:
    if suffix == ".png":
        image = image.quantize(64)  # noise doesn't compress, and a demo needn't carry it
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[suffix], **_OPTIONS[suffix])
    return buffer.getvalue()


def main() -> None:
    """Write the samples into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        (folder / sample.name).write_bytes(draw(sample))
    print(f"{len(SAMPLES)} samples in {folder}")


if __name__ == "__main__":
    main()
