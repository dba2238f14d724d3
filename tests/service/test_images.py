import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from service.errors import InvalidImageError, InvalidRequestError
from service.images import ImageLimits, decode

FORMATS = ["PNG", "JPEG", "WEBP"]
SEED = 7


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def color_noise(width: int = 30, height: int = 20) -> Image.Image:
    pixels = np.random.default_rng(SEED).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and that holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def corner_marked() -> Image.Image:
    """White in the upper left corner, black elsewhere, not square."""
    image = Image.new("L", (8, 6))
    image.paste(255, (0, 0, 2, 2))
    return image


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_lossless_files_come_back_pixel_for_pixel(format: str) -> None:
    image = color_noise()
    np.testing.assert_array_equal(decode(encoded(image, format, lossless=True)), np.asarray(image))


def test_jpeg_comes_back_as_pillow_decodes_it() -> None:
    data = encoded(color_noise(), "JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("mode", "format", "channels"),
    [
        ("1", "PNG", 1),
        ("L", "PNG", 1),
        ("L", "JPEG", 1),
        ("LA", "PNG", 3),
        ("P", "PNG", 3),
        ("RGB", "PNG", 3),
        ("RGBA", "PNG", 3),
        ("RGBA", "WEBP", 3),
        ("CMYK", "JPEG", 3),
    ],
)
def test_every_mode_becomes_grey_or_color(mode: str, format: str, channels: int) -> None:
    decoded = decode(encoded(color_noise().convert(mode), format))
    assert decoded.dtype == np.uint8
    assert decoded.shape == (20, 30, channels)


def test_16_bits_are_scaled_to_8() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encoded(Image.fromarray(levels.astype(np.uint16) * 257))
    np.testing.assert_array_equal(decode(data)[..., 0], levels)


def test_palette_colors_are_looked_up() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(image))[0, 0].tolist() == [10, 20, 30]


def test_transparent_palette_entry_is_filled() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 0, 0, 0, 0, 0])
    image.paste(1, (0, 0, 1, 1))
    assert decode(encoded(image, transparency=0))[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("ink", "coverage", "background"),
    [
        ("black", "little", 255),
        ("white", "little", 0),
        ("black", "much", 0),
        ("white", "much", 255),
        ("black", "none", 255),
    ],
)
def test_transparent_pixels_are_filled_so_that_ink_stands_out(
    ink: str, coverage: str, background: int
) -> None:
    image = Image.new("RGBA", (10, 10))
    image.paste(ink, (0, 0, 10, {"none": 0, "little": 2, "much": 8}[coverage]))
    assert decode(encoded(image))[9, 9].tolist() == [background] * 3


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, "left top"),
        (2, "right top"),
        (3, "right bottom"),
        (4, "left bottom"),
        (5, "left top"),
        (6, "right top"),
        (7, "right bottom"),
        (8, "left bottom"),
    ],
)
def test_exif_orientation_is_honored(format: str, orientation: int, corner: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encoded(corner_marked(), format, exif=exif))[..., 0]
    horizontal, vertical = corner.split()
    assert decoded.shape == ((6, 8) if orientation < 5 else (8, 6))
    assert decoded[0 if vertical == "top" else -1, 0 if horizontal == "left" else -1] > 200


@pytest.mark.parametrize("format", FORMATS)
def test_broken_exif_is_ignored(format: str) -> None:
    garbage = np.random.default_rng(SEED).bytes(60_000)
    plain, marked = encoded(color_noise(), format), encoded(color_noise(), format, exif=b"Exif\0\0" + garbage)
    np.testing.assert_array_equal(decode(marked), decode(plain))


def test_broken_color_profile_is_ignored() -> None:
    data = encoded(color_noise(), icc_profile=b"no profile")
    np.testing.assert_array_equal(decode(data), np.asarray(color_noise()))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_first_frame_counts(format: str) -> None:
    frames = [Image.new("RGB", (5, 5), color) for color in ("red", "blue", "lime")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data)[2, 2].tolist() == [255, 0, 0]


def test_multi_picture_jpeg_of_phones_is_read() -> None:
    data = encoded(color_noise(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert decode(data).shape == (20, 30, 3)


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_after_the_image_are_ignored(format: str) -> None:
    data = encoded(color_noise(), format)
    np.testing.assert_array_equal(decode(data + b"<html>junk"), decode(data))


@pytest.mark.parametrize("size", [(1, 1), (1, 16_384), (16_384, 1), (3, 5000)])
def test_thin_images_are_read(size: tuple[int, int]) -> None:
    decoded = decode(encoded(Image.new("L", size, 9)))
    assert decoded.size > 0
    assert np.unique(decoded).tolist() == [9]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("side", "expected"), [(2047, 2047), (2048, 1024), (3500, 1167)])
def test_large_images_are_reduced_but_not_below_enough(format: str, side: int, expected: int) -> None:
    decoded = decode(encoded(Image.new("RGB", (side, 40), "teal"), format))
    assert expected <= max(decoded.shape) < 2048


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty (0 bytes)"),
        (b"x", "1 bytes beginning with b'x' are not an image"),
        (np.random.default_rng(SEED).bytes(2000), "2000 bytes beginning with"),
        (b"hello, this is text", "are not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "b'<svg xml'"),
        (b"<!doctype html><html></html>", "are not an image"),
        (b"\x89PNG\r\n\x1a\n", "are not an image"),
    ],
)
def test_bytes_that_are_no_image_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImageError) as error:
        decode(data)
    assert message in str(error.value)
    assert "send the whole PNG" in str(error.value) or "send a whole PNG" in str(error.value)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM", "ICO", "PDF", "EPS", "JPEG2000", "TGA"])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(InvalidImageError, match="are not an image"):
        decode(encoded(color_noise(), format))


@pytest.mark.parametrize("format", FORMATS)
def test_every_truncation_is_refused(format: str) -> None:
    data = encoded(color_noise(12, 9), format)
    for length in range(len(data)):
        with pytest.raises(InvalidImageError):
            decode(data[:length])


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_give_an_image_or_our_error(format: str) -> None:
    random = np.random.default_rng(SEED)
    data = encoded(color_noise(12, 9), format)
    outcomes = {outcome_of(with_damage(data, random)) for _ in range(300)}
    assert outcomes <= {"image", "refused"}
    assert "refused" in outcomes


def with_damage(data: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for position in random.integers(0, len(data), 3):
        damaged[position] = random.integers(256)
    return bytes(damaged)


def outcome_of(data: bytes) -> str:
    try:
        decode(data)
    except InvalidImageError:
        return "refused"
    return "image"


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 9_000), (5001, 5000), (16_385, 1), (1, 16_385)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImageError, match=r"too large|too many pixels"):
        decode(png_header(*size))


def test_size_limits_are_inclusive() -> None:
    limits = ImageLimits(max_pixels=600, max_side=30)
    assert decode(encoded(color_noise(30, 20)), limits).shape == (20, 30, 3)
    with pytest.raises(InvalidImageError, match="30x21 pixels, at most 600 pixels in all and 30 on a side"):
        decode(encoded(color_noise(30, 21)), limits)


def test_jpeg_with_too_many_scans_is_refused() -> None:
    data = encoded(color_noise(), "JPEG", progressive=True)
    assert decode(data).shape == (20, 30, 3)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 100 + data[-2:]
    with pytest.raises(InvalidImageError, match="more than 64 scans"):
        decode(bomb)


def test_thousands_of_text_chunks_do_no_harm() -> None:
    text = PngImagePlugin.PngInfo()
    for number in range(2000):
        text.add_text(f"key {number}", "value")
    assert decode(encoded(color_noise(), pnginfo=text)).shape == (20, 30, 3)


def test_messages_tell_no_internals() -> None:
    for data in (b"", b"junk", png_header(50_000, 50_000), encoded(color_noise())[:90]):
        with pytest.raises(InvalidRequestError) as error:
            decode(data)
        assert not any(word in str(error.value) for word in ("PIL", "Pillow", "BytesIO", "Error", "/"))


def test_threads_decode_side_by_side() -> None:
    images = [color_noise(40 + number, 30) for number in range(8)]
    files = [encoded(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        decoded: list[NDArray[np.uint8]] = list(pool.map(decode, files))
    for image, pixels in zip(images, decoded, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(image))
