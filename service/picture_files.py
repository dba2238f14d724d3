"""Walk the files of pictures: what of them decides the pixels, and which way is up.

Cameras and programs pack much more into a file: thumbnails, videos, profiles, texts, other pictures. None of
it is read, so none of it can do harm, however damaged or large it is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Format = Literal["PNG", "JPEG", "WEBP"]

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])["<]')
_TIFF_ORIENTATION = 0x0112
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}
"""Struct's codes of BYTE, SHORT and LONG."""

# ITU-T T.81, table B.1: markers that no length follows, and those of a frame's header.
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


MOST_PARTS = 100_000
"""Chunks or segments of a file. A picture of 25 million pixels has some thousands."""


class CutShortError(Exception):
    """The file ends before its picture does, has a wrong length in it, or parts without number."""


class NoPictureError(Exception):
    """It is no PNG, JPEG or WebP file."""


@dataclass(frozen=True)
class PictureFile:
    """A file of one picture and nothing else."""

    format: Format
    width: int
    height: int
    data: bytes
    orientation: int = 1
    """As EXIF counts: 1 is upright."""
    scans: int = 1
    """Passes over the picture."""


def walk(data: bytes) -> PictureFile:
    """Find the first picture of a file.

    Raises:
        NoPictureError: it is no file of a known format, or has no header.
        CutShortError: it is damaged or cut short, as far as that shows without decoding.
    """
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(_JPEG):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError) as error:
        raise CutShortError from error
    raise NoPictureError


# --- PNG: https://www.w3.org/TR/png-3/#5DataRep ---


def _png(data: bytes) -> PictureFile:
    """Keep the critical chunks, and the one other that has a part in the pixels: tRNS."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise NoPictureError
    width, height = struct.unpack_from(">II", data, 16)
    kept, exif, xmp = [_PNG], b"", b""
    for kind, start, end in _chunks(data):
        if not kind[0] & 0x20 or kind == b"tRNS":
            kept.append(data[start:end])
        elif kind == b"eXIf":
            exif = exif or data[start + 8 : end - 4]
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", start + 8):
            xmp = xmp or data[start + 8 : end - 4]
    return PictureFile("PNG", width, height, b"".join(kept), _orientation(exif, xmp))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of all chunks to IEND."""
    start = len(_PNG)
    for _ in range(MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data) or not kind.isalpha():
            raise CutShortError
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end
    raise CutShortError


# --- JPEG: ITU-T T.81, annex B ---


def _jpeg(data: bytes) -> PictureFile:
    """Keep all but comments and what applications wrote, unless it tells the colors: JFIF and Adobe."""
    kept, exif, xmp, size, scans = [data[:2]], b"", b"", (0, 0), 0
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = xmp or body
        told = (marker, body[:5]) in ((0xE0, b"JFIF\0"), (0xEE, b"Adobe"))
        if told or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start:end])
        scans += marker == _SCAN
        if marker in _FRAMES and size == (0, 0):
            size = struct.unpack_from(">xHH", body)
    height, width = size
    if not scans or size == (0, 0):
        raise CutShortError
    return PictureFile("JPEG", width, height, b"".join(kept), _orientation(exif, xmp), scans)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of all segments to the end of the first image; of a scan with its data."""
    at = 2
    for _ in range(MOST_PARTS):
        if (found := _MARKER.search(data, at)) is None:
            raise CutShortError
        marker, start, at = data[found.end() - 1], found.start(), found.end()
        if marker not in _ALONE and marker != _END:
            (length,) = struct.unpack_from(">H", data, at)
            at += length
            if length < 2 or at > len(data):
                raise CutShortError
        if marker == _SCAN:
            if (following := _AFTER_SCAN.search(data, at)) is None:
                raise CutShortError
            at = following.start()
        yield marker, start, at
        if marker == _END:
            return
    raise CutShortError


# --- WebP: RFC 9649, section 2 ---


def _webp(data: bytes) -> PictureFile:
    """Keep the file as it is: its reader looks at nothing but the picture."""
    width, height = _webp_size(data)
    exif, xmp, at = b"", b"", 12
    for _ in range(MOST_PARTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            exif = exif or data[at + 8 : at + 8 + length]
        elif kind == b"XMP ":
            xmp = xmp or data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return PictureFile("WEBP", width, height, data, _orientation(exif, xmp))


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        canvas = struct.unpack_from("<HBHB", data, 24)
        return 1 + canvas[0] + (canvas[1] << 16), 1 + canvas[2] + (canvas[3] << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise NoPictureError


# --- which way is up ---


def _orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation of EXIF, else of XMP; 1 if neither can be read."""
    found = _of_exif(exif.removeprefix(b"Exif\0\0"))
    if found is None and (told := _XMP_ORIENTATION.search(xmp)):
        found = int(told[1])
    return found or 1


def _of_exif(tiff: bytes) -> int | None:
    """Read the tag from the first directory of a TIFF structure, whatever else is wrong with that.

    TIFF 6.0, section 2. The tag's count should be 1; of more values the first counts.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
            if tag == _TIFF_ORIENTATION and kind in _TIFF_TYPES:
                return _first_value(tiff, entry + 8, order, _TIFF_TYPES[kind], count)
    except struct.error:
        pass
    return None


def _first_value(tiff: bytes, at: int, order: str, code: str, count: int) -> int | None:
    if count * struct.calcsize(code) > 4:  # then its place is told instead
        (at,) = struct.unpack_from(f"{order}I", tiff, at)
    (value,) = struct.unpack_from(f"{order}{code}", tiff, at)
    return value if 1 <= value <= 8 else None
