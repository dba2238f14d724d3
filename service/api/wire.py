"""As much of protobuf's wire format as it takes to write and compare messages without making objects.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

LONGEST_VARINT = 10
"""Bytes of the largest number, 2**64 - 1."""
_LENGTH_DELIMITED = 2


def varint(number: int) -> bytes:
    """Encode a number in groups of 7 bits, the lowest first, each but the last with the high bit set."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the number at an offset, and return it with the offset of what follows."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def prefix(field: int, size: int) -> bytes:
    """Encode what stands before the bytes of a field: its number, that it has a length, and the length."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(size)


def text(field: int, content: bytes) -> tuple[bytes, bytes]:
    """Encode a field of bytes, a string or a message, in two parts to be joined."""
    return prefix(field, len(content)), content
