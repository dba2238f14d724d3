"""What files of pictures carry beside their pixels: they decode to the pixels of the clean file."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from service.errors import InvalidImageError
from service.images import decode
from service.picture_files import MOST_PARTS, walk
from tests.service.papers import SAMPLES, sheet
from tests.service.test_classify import of_images

SEVEN = sheet(next(sample for sample in SAMPLES if sample.name.startswith("7"))).convert("RGB")
NOISE = np.random.default_rng(5).bytes(300_000)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


JPEG, PNG = encoded(SEVEN, "JPEG", quality=90), encoded(SEVEN, "PNG")
WEBP = encoded(SEVEN, "WEBP", lossless=True)


# --- files, made by hand ---


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segment(marker: int, body: bytes, data: bytes = JPEG) -> bytes:
    return data[:2] + segment(marker, body) + data[2:]


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    right = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", right if crc is None else crc)


def with_chunk(kind: bytes, body: bytes, data: bytes = PNG, crc: int | None = None) -> bytes:
    return data[:33] + chunk(kind, body, crc) + data[33:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in chunks]
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, parts))) + b"WEBP" + b"".join(parts)


def webp_with(*chunks: tuple[bytes, bytes], flags: int) -> bytes:
    canvas = struct.pack("<I", flags) + struct.pack("<I", SEVEN.width - 1)[:3] * 2
    return riff((b"VP8X", canvas), (b"VP8L", WEBP[20:]), *chunks)


def tiff(*entries: bytes, order: str = "<", after: bytes = bytes(4)) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIH", 42, 8, len(entries)) + b"".join(entries) + after


def tag(number: int, kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", number, kind, count) + value.ljust(4, b"\0")


TURNED = tag(0x112, 3, 1, b"\6\0")
OUTSIDE = tag(0x8298, 2, 9999, struct.pack("<I", 500))
BOMB = zlib.compress(bytes(80 << 20))

CLEAN = {
    "tag outside": with_segment(0xE1, b"Exif\0\0" + tiff(OUTSIDE)),
    "exif cut short": with_segment(0xE1, b"Exif\0\0" + tiff(TURNED)[:14]),
    "exif of noise": with_segment(0xE1, b"Exif\0\0II*\0" + NOISE[:60_000]),
    "empty exif": with_segment(0xE1, b"Exif\0\0"),
    "damaged MPF": with_segment(0xE2, b"MPF\0II*\0" + struct.pack("<I", 900)),
    "empty MPF": with_segment(0xE2, b"MPF\0"),
    "video behind": JPEG + NOISE * 20 + b"\xff\xda" * 200,
    "picture behind": JPEG + JPEG,
    "thumbnail": with_segment(0xE1, b"Exif\0\0" + tiff() + encoded(SEVEN.resize((90, 90)), "JPEG")),
    "scans in a comment": with_segment(0xFE, b"\xff\xda" * 100),
    "empty comments": with_segment(0xFE, b"", with_segment(0xFE, b"")),
    "fill bytes": JPEG[:2] + b"\xff" * 50 + JPEG[2:],
    "damaged profile": with_segment(0xE2, b"ICC_PROFILE\0\1\1" + NOISE[:100]),
    "damaged photoshop": with_segment(0xED, b"Photoshop 3.0\x008BIM" + NOISE[:7]),
    "text bomb": with_chunk(b"zTXt", b"key\0\0" + BOMB),
    "international text bomb": with_chunk(b"iTXt", b"key\0\1\0\0\0" + BOMB),
    "much text": with_chunk(b"tEXt", b"key\0" + b"x" * (3 << 20)),
    "profile bomb": with_chunk(b"iCCP", b"name\0\0" + BOMB),
    "profile of a strange kind": with_chunk(b"iCCP", b"name\0\7"),
    "empty profile": with_chunk(b"iCCP", b""),
    "damaged checksum of a text": with_chunk(b"tEXt", b"key\0value", crc=1),
    "invalid animation": with_chunk(b"acTL", b"\0"),
    "empty resolution": with_chunk(b"pHYs", b""),
    "text with an end": with_chunk(b"tEXt", b"key\0IEND\xae\x42\x60\x82"),
    "bytes behind": PNG + NOISE,
    "webp with damaged exif": webp_with((b"EXIF", tiff(OUTSIDE)), flags=8),
    "webp with damaged profile": webp_with((b"EXIF", b""), (b"XMP ", NOISE[:99]), flags=12),
    "webp with bytes behind": WEBP + NOISE,
}


def clean(data: bytes) -> NDArray[np.uint8]:
    return decode(JPEG if data.startswith(b"\xff\xd8") else PNG)


@pytest.mark.parametrize("data", CLEAN.values(), ids=CLEAN)
def test_luggage_changes_no_pixel(data: bytes) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(decode(data), clean(data))
    assert caught == []


@pytest.mark.parametrize("name", ["tag outside", "damaged MPF", "video behind", "text bomb"])
def test_luggage_changes_no_answer(stub: ClassifierStub, name: str) -> None:
    (result,) = stub.Classify(of_images(CLEAN[name], top_k=1)).results
    assert result.scores[0].label == "7"


def test_pictures_are_read_whatever_the_process_does_with_warnings() -> None:
    program = """
import sys, warnings
from service.images import decode
warnings.simplefilter("error")
before = list(warnings.filters)
assert decode(sys.stdin.buffer.read()).shape == (420, 420, 3)
assert warnings.filters == before
"""
    subprocess.run([sys.executable, "-c", program], input=CLEAN["damaged MPF"], check=True, env=os.environ)


# --- orientation ---


def jpeg_turned(exif: bytes) -> bytes:
    return with_segment(0xE1, b"Exif\0\0" + exif)


def png_turned(exif: bytes) -> bytes:
    return with_chunk(b"eXIf", exif)


def webp_turned(exif: bytes) -> bytes:
    return webp_with((b"EXIF", exif), flags=8)


FAR = struct.pack("<I", 26)
ORIENTATIONS = {
    "as it should be": (tiff(TURNED), 6),
    "big-endian": (tiff(tag(0x112, 3, 1, b"\0\6", ">"), order=">"), 6),
    "two values": (tiff(tag(0x112, 3, 2, b"\6\0\1\0")), 6),
    "no value": (tiff(tag(0x112, 3, 0, b"\6\0")), 6),
    "three values, elsewhere": (tiff(tag(0x112, 3, 3, FAR), after=bytes(4) + b"\6\0\1\0\1\0"), 6),
    "three values, nowhere": (tiff(tag(0x112, 3, 3, struct.pack("<I", 9000))), 1),
    "a long": (tiff(tag(0x112, 4, 1, b"\6")), 6),
    "a byte": (tiff(tag(0x112, 1, 1, b"\6")), 6),
    "a text": (tiff(tag(0x112, 2, 1, b"6")), 1),
    "beside a damaged tag": (tiff(OUTSIDE, TURNED), 6),
    "before the end is missing": (tiff(TURNED, TURNED)[:22], 6),
    "out of range": (tiff(tag(0x112, 3, 1, b"\x09")), 1),
    "zero": (tiff(tag(0x112, 3, 1, b"\0")), 1),
    "directory outside": (b"II*\0" + struct.pack("<I", 1 << 30), 1),
}


@pytest.mark.parametrize(("exif", "expected"), ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("turned", [jpeg_turned, png_turned, webp_turned])
def test_orientation_is_read_where_it_can_be(
    turned: Callable[[bytes], bytes], exif: bytes, expected: int
) -> None:
    data = turned(exif)
    upright = clean(data)
    np.testing.assert_array_equal(decode(data), np.rot90(upright, -1) if expected == 6 else upright)


def test_orientation_is_read_from_xmp_if_there_is_no_other() -> None:
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="3"/>'
    text = b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>3</tiff:Orientation>"

    assert walk(with_segment(0xE1, xmp)).orientation == 3
    assert walk(with_chunk(b"iTXt", text)).orientation == 3
    assert walk(with_segment(0xE1, xmp, jpeg_turned(tiff(TURNED)))).orientation == 6


# --- other kinds of the formats, as Pillow decodes them ---


def animated(format: str) -> bytes:
    others = [Image.new("RGB", SEVEN.size, color) for color in ("red", "blue")]
    return encoded(SEVEN, format, save_all=True, append_images=others, lossless=True)


def inverted_cmyk() -> bytes:
    return encoded(SEVEN.convert("CMYK"), "JPEG", quality=95)


KINDS = {
    "restart markers": encoded(SEVEN, "JPEG", restart_marker_rows=1),
    "progressive": encoded(SEVEN, "JPEG", progressive=True, restart_marker_blocks=3),
    "several pictures": encoded(SEVEN, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    "CMYK as Adobe writes it": inverted_cmyk(),
    "RGB without JFIF": encoded(SEVEN, "JPEG", keep_rgb=True),
    "with a profile": encoded(SEVEN, "JPEG", icc_profile=NOISE[:200_000]),
    "animated PNG": animated("PNG"),
    "interlaced palette": encoded(SEVEN.quantize(8), "PNG"),
    "gamma": with_chunk(b"gAMA", struct.pack(">I", 100_000)),
    "lossy WebP": encoded(SEVEN, "WEBP", exif=b"Exif\0\0" + tiff(), icc_profile=NOISE[:100]),
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_other_kinds_come_as_pillow_decodes_them(data: bytes) -> None:
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), expected)


def test_an_animated_webp_gives_its_first_picture() -> None:
    np.testing.assert_array_equal(decode(animated("WEBP")), np.asarray(SEVEN))


def test_a_hidden_default_picture_of_an_animation_counts() -> None:
    data = encoded(
        SEVEN, "PNG", save_all=True, default_image=True, append_images=[Image.new("RGB", SEVEN.size)]
    )
    np.testing.assert_array_equal(decode(data), np.asarray(SEVEN))


def test_transparency_of_palettes_and_greys_is_kept() -> None:
    grey = Image.new("L", (6, 6), 200)
    grey.paste(0, (0, 0, 2, 2))
    assert decode(encoded(grey, "PNG", transparency=200))[5, 5].tolist() == [255, 255, 255]
    palette = grey.quantize(2)
    alphas = bytes(0 if index == palette.getpixel((5, 5)) else 255 for index in range(2))
    assert decode(encoded(palette, "PNG", transparency=alphas))[5, 5].tolist() == [255, 255, 255]


# --- what stays refused ---


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_chunk(b"tEXt", b"key\0IEND\xae\x42\x60\x82")[:-12], "PNG image of .* cut short"),
        (PNG[:-1], "PNG image of .* cut short"),
        (PNG[:33] + struct.pack(">I4s", 1 << 31, b"tEXt") + PNG[33:], "PNG image of .* cut short"),
        (with_chunk(b"IDAT", b"x", crc=1), "PNG image of .* damaged"),
        (JPEG[:-2], "JPEG image of .* cut short"),
        (JPEG[: len(JPEG) // 2], "JPEG image of .* cut short"),
        (with_segment(0xFE, b"x" * 60_000)[:50_000], "JPEG image of .* cut short"),
        (JPEG[:2] + b"\xff\xfe\0\1" + JPEG[2:], "JPEG image of .* damaged"),
        (b"\xff\xd8\xff\xd9", "JPEG image of 4 bytes is damaged"),
        (WEBP[:40], "WEBP image of 40 bytes is damaged"),
        (encoded(SEVEN, "GIF"), "are not an image"),
        (encoded(SEVEN, "TIFF"), "are not an image"),
        (JPEG[:2] + segment(0xFE, b"") * MOST_PARTS + JPEG[2:], "damaged"),
        (PNG[:33] + chunk(b"tEXt", b"") * MOST_PARTS + PNG[33:], "damaged"),
        (JPEG[:-2] + b"\xff" * (4 << 20), "cut short"),
    ],
    ids=[
        *("end in a text", "end missing", "huge chunk", "pixels damaged", "end of image missing", "half"),
        *("comment cut", "impossible length", "empty", "webp cut", "gif", "tiff", "comments without number"),
        *("texts without number", "filled up"),
    ],
)
def test_what_is_cut_short_or_damaged_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        decode(data)


@pytest.mark.parametrize("side", [16_384, 10_000])
def test_a_bomb_of_any_format_is_refused_by_its_size(side: int) -> None:
    header = struct.pack(">HH", side, side)
    frame = JPEG.index(b"\xff\xc0") + 5
    size = struct.pack("<I", side - 1)[:3]
    bombs = [
        PNG[:16] + struct.pack(">II", side, side) + PNG[24:],
        JPEG[:frame] + header + JPEG[frame + 4 :],
        riff((b"VP8X", bytes(4) + size + size), (b"VP8L", WEBP[20:])),
    ]
    for data in bombs:
        with pytest.raises(InvalidImageError, match=f"too large: {side}x{side} pixels"):
            decode(data)


def test_scans_of_the_picture_itself_still_count() -> None:
    data = encoded(SEVEN, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidImageError, match="more than 64 scans"):
        decode(data[:last] + data[last:-2] * 80 + data[-2:] + NOISE)
