"""Elements of datatype BYTES: each is its length, 4 bytes little-endian, then that many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_LENGTH_BYTES = 4


def split(data: bytes, count: int) -> list[bytes]:
    """Take the elements apart.

    Raises:
        ValueError: there are not `count` of them, or the last is cut short.
    """
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise ValueError(
                f"element {len(elements)} ends {at - len(data)} bytes after the data's {len(data)}; expected"
                " 4 bytes of little-endian length before each element"
            )
        elements.append(data[start:at])
    check_count(elements, count)
    return elements


def join(elements: Iterable[bytes]) -> bytes:
    """Put elements together."""
    return b"".join(
        part for element in elements for part in (len(element).to_bytes(_LENGTH_BYTES, "little"), element)
    )


def check_count(elements: Sequence[object], count: int) -> None:
    """Check that there are as many elements as a shape says.

    Raises:
        ValueError: there are not.
    """
    if len(elements) != count:
        raise ValueError(f"data has {len(elements)} elements, expected {count} for the shape")


def texts(elements: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Make an array of texts, as ONNX has them in UTF-8.

    Raises:
        ValueError: an element is not UTF-8.
    """
    array = np.empty(len(elements), object)
    for i, element in enumerate(elements):
        try:
            array[i] = element.decode()
        except UnicodeDecodeError:
            raise ValueError(f"element {i} is not UTF-8") from None
    return array.reshape(shape)


def encoded(array: np.ndarray) -> bytes:
    """Put the elements of an array of texts together."""
    return join(element if isinstance(element, bytes) else str(element).encode() for element in array.flat)
