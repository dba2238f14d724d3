from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.data import pad, read_digits
from training.idx import IdxError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from training.data import Digits


def test_padding_puts_two_pixels_of_background_on_every_side() -> None:
    images = np.full((3, 28, 28), 7, np.uint8)
    padded = pad(images)
    assert padded.shape == (3, 32, 32)
    assert np.array_equal(padded[:, 2:30, 2:30], images)
    assert padded.sum() == images.sum()


def test_both_halves_are_read(train_digits: Digits, test_digits: Digits) -> None:
    assert train_digits.images.shape == (320, 32, 32)
    assert test_digits.labels.tolist() == [index % 10 for index in range(100)]
    assert len(train_digits[:20]) == 20


def test_refuses_labels_of_another_number_than_images(
    tmp_path: Path, encode_idx: Callable[[NDArray[np.uint8]], bytes]
) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encode_idx(np.zeros((3, 28, 28), np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encode_idx(np.zeros(4, np.uint8)))
    with pytest.raises(IdxError) as caught:
        read_digits(tmp_path, "train")
    assert str(caught.value) == "train-labels-idx1-ubyte has shape 4, expected 3"
