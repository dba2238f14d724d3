"""A data set that is small, learnable and made here: no test needs the network to train."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.data import Digits, read_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_SIZES = {"train": 320, "t10k": 100}


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """Encode as IDX, dtype 0x08."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="session")
def encode_idx() -> Callable[[NDArray[np.uint8]], bytes]:
    return idx_bytes


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four IDX files: for each class a pattern of ink, and a little noise over it."""
    folder = tmp_path_factory.mktemp("idx")
    random = np.random.default_rng(0)
    patterns = np.kron(random.random((10, 7, 7)) > 0.6, np.ones((4, 4)))  # (10, 28, 28)
    for name, size in _SIZES.items():
        labels = np.arange(size, dtype=np.uint8) % 10
        images = patterns[labels] * 200 + random.random((size, 28, 28)) * 55
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images.astype(np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


@pytest.fixture(scope="session")
def train_digits(idx_folder: Path) -> Digits:
    return read_digits(idx_folder, "train")


@pytest.fixture(scope="session")
def test_digits(idx_folder: Path) -> Digits:
    return read_digits(idx_folder, "test")
