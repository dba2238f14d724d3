from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.idx import IdxError, read_idx

if TYPE_CHECKING:
    from pathlib import Path

U1 = np.dtype(np.uint8)
GOOD = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))


def test_reads_values_in_row_major_order(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(GOOD)
    assert read_idx(path, dtype=U1, shape=(None, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_big_endian_values_arrive_in_native_order(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(struct.pack(">HBBI2h", 0, 0x0B, 1, 2, 258, -1))
    values = read_idx(path, dtype=np.dtype(np.int16), shape=(2,))
    assert values.tolist() == [258, -1]
    assert values.dtype.isnative


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a is not an IDX file: it starts with nothing"),
        (b"\x1f\x8b\x08\x00" + GOOD, "a is not an IDX file: it starts with 1f 8b 08 00"),
        (b"\0\0\x07\x01" + bytes(5), "a is not an IDX file: it starts with 00 00 07 01"),
        (GOOD[:9], "a is truncated: 9 bytes, its header alone takes 12"),
        (GOOD[:-1], "a is truncated: 17 bytes, its header announces 18"),
        (GOOD + b"\0", "a is followed by trailing bytes: 19 bytes, its header announces 18"),
        (b"\0\0\x09" + GOOD[3:], "a holds int8, expected uint8"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 6]) + bytes(6), "a has shape 6, expected anyx3"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2]) + bytes(6), "a has shape 3x2, expected anyx3"),
    ],
)
def test_refuses_what_is_not_the_expected_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(IdxError) as caught:
        read_idx(path, dtype=U1, shape=(None, 3))
    assert str(caught.value) == message


def test_a_header_that_announces_a_huge_array_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes([0, 0, 8, 2]) + b"\xff" * 8)
    with pytest.raises(IdxError, match="truncated"):
        read_idx(path, dtype=U1, shape=(None, None))
