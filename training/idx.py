"""Read IDX, the format MNIST is published in (Y. LeCun, "The MNIST database", section "File formats")."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# By the third byte of the magic number. Every number in a file is big-endian.
_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype("i2"),
    0x0C: np.dtype("i4"),
    0x0D: np.dtype("f4"),
    0x0E: np.dtype("f8"),
}


class IdxError(ValueError):
    """The file is not the IDX file that was expected; the message says what came instead."""


def read_idx(path: Path, *, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Read one IDX file that must hold `dtype` and `shape`, where None stands for any size.

    Raises:
        IdxError: wrong magic number, dtype, number of dimensions or size; missing or trailing bytes.
    """
    content = path.read_bytes()
    found_dtype, found_shape, offset = _read_header(path.name, content)
    if found_dtype != dtype:
        raise IdxError(f"{path.name} holds {found_dtype.name}, expected {dtype.name}")
    if len(found_shape) != len(shape) or any(
        want not in (None, found) for want, found in zip(shape, found_shape, strict=True)
    ):
        wanted = "x".join("any" if size is None else str(size) for size in shape)
        raise IdxError(f"{path.name} has shape {'x'.join(map(str, found_shape))}, expected {wanted}")
    expected = offset + math.prod(found_shape) * found_dtype.itemsize
    if len(content) != expected:
        kind = "truncated" if len(content) < expected else "followed by trailing bytes"
        raise IdxError(f"{path.name} is {kind}: {len(content)} bytes, its header announces {expected}")
    flat = np.frombuffer(content, found_dtype.newbyteorder(">"), offset=offset)
    return flat.reshape(found_shape).astype(found_dtype)


def _read_header(name: str, content: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return dtype, shape and the offset of the first value."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise IdxError(f"{name} is not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}")
    dimensions = content[3]
    offset = 4 + 4 * dimensions
    if len(content) < offset:
        raise IdxError(f"{name} is truncated: {len(content)} bytes, its header alone takes {offset}")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", content[4:offset])
    return _DTYPES[content[2]], shape, offset
