"""Cut the sample digits in samples/mnist out of MNIST's test set."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from training.idx import read_idx

DESTINATION = Path(__file__).resolve().parent.parent / "samples" / "mnist"
BYTE = np.dtype(np.uint8)


def choose(labels: np.ndarray, extra: int) -> list[int]:
    """Return the positions of the first image of each digit and of the first `extra` others."""
    first = sorted(int(np.argmax(labels == digit)) for digit in range(10))
    others = [position for position in range(len(labels)) if position not in first]
    return first + others[:extra]


def main() -> None:
    """Write the pictures, named after their digit and their position in the test set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the two t10k-*-ubyte files")
    parser.add_argument("--extra", type=int, default=6, help="pictures besides the first of each digit")
    arguments = parser.parse_args()
    images = read_idx(arguments.data / "t10k-images-idx3-ubyte", dtype=BYTE, shape=(None, 28, 28))
    labels = read_idx(arguments.data / "t10k-labels-idx1-ubyte", dtype=BYTE, shape=(None,))
    for position in choose(labels, arguments.extra):
        name = f"{labels[position]}_test{position:05d}.png"
        Image.fromarray(images[position]).save(DESTINATION / name, optimize=True)


if __name__ == "__main__":
    main()
