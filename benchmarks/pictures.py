"""Draw digits as people send them: `python -m benchmarks.pictures OUT_DIR --count 300 --seed 1`.

Every file's name tells its label and its scene, such as 0007_label-3_chalk.jpg.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drawing import Rng
from benchmarks.scenes import SCENES


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
    return [draw_one(*turn(number), rng) for number in range(count)]


def turn(number: int) -> tuple[int, str]:
    """Return the label and the scene of a picture's number: all pairs of them take turns."""
    scenes = list(SCENES)
    return number % 10, scenes[(number + number // 10) % len(scenes)]


def draw_one(label: int, scene: str, rng: Rng) -> Picture:
    """Draw one digit in one of the SCENES."""
    data, extension = SCENES[scene](label, rng)
    return Picture(label, scene, data, extension)


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
