import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.framing import STROKE_WIDTHS, SUPERSAMPLING, frame_ink, stroke_width

Color = tuple[int, int, int]
SEVEN = ((0.1, 0.0), (0.7, 0.02), (0.3, 1.0))
SIZES = [(1, 1), (1, 500), (500, 1), (3, 700), (28, 28), (32, 32), (20, 20), (1000, 900)]


def drawn_seven(
    size: tuple[int, int] = (300, 240),
    at: tuple[int, int] = (150, 60),
    height: int = 120,
    width: int = 12,
    ink: Color = (20, 20, 20),
    paper: Color = (255, 255, 255),
) -> Image.Image:
    """A seven, drawn as a line through three points."""
    image = Image.new("RGB", size, paper)
    points = [(at[0] + x * height, at[1] + y * height) for x, y in SEVEN]
    ImageDraw.Draw(image).line(points, ink, width, joint="curve")
    return image


def framed(image: Image.Image) -> NDArray[np.float32]:
    pixels = np.asarray(image)
    return frame_ink(pixels if pixels.ndim == 3 else pixels[..., None], 32, 32, 20)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Absolute difference, relative to the ink there is."""
    return float(np.abs(one - other).sum() / other.sum())


def extent(ink: NDArray[np.float32]) -> int:
    rows, columns = np.nonzero(ink > 0.5)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1


@pytest.fixture(scope="module")
def reference() -> NDArray[np.float32]:
    return framed(drawn_seven())


def test_ink_fills_the_box_and_is_centered_by_its_mass(reference: NDArray[np.float32]) -> None:
    positions = np.arange(0.5, 32)
    assert extent(reference) in (19, 20, 21)
    assert reference.sum(axis=1) @ positions / reference.sum() == pytest.approx(16, abs=0.25)
    assert reference.sum(axis=0) @ positions / reference.sum() == pytest.approx(16, abs=0.25)


def test_background_is_exactly_0_and_ink_reaches_1(reference: NDArray[np.float32]) -> None:
    assert (reference == 0).mean() > 0.5
    assert float(reference.max()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "other",
    [
        drawn_seven(at=(10, 10)),
        drawn_seven(size=(1200, 1600), at=(100, 1300)),
        drawn_seven(size=(1200, 1600), at=(100, 100), height=1200, width=120),
        drawn_seven(size=(70, 70), at=(15, 10), height=50, width=5),
        drawn_seven(ink=(250, 250, 250), paper=(30, 30, 30)),
        drawn_seven(ink=(30, 60, 160), paper=(250, 240, 200)),
        drawn_seven(ink=(250, 240, 150), paper=(30, 70, 50)),
        drawn_seven().convert("L"),
    ],
    ids=["corner", "small", "large", "few pixels", "light on dark", "colors", "chalk", "grey"],
)
def test_place_size_and_color_make_no_difference(other: Image.Image, reference: NDArray[np.float32]) -> None:
    assert difference(framed(other), reference) < 0.25


def test_shadow_ruled_lines_specks_and_noise_make_little_difference(reference: NDArray[np.float32]) -> None:
    image = drawn_seven()
    pen = ImageDraw.Draw(image)
    for y in range(15, 240, 40):
        pen.line((0, y, 300, y), (190, 205, 235), 1)
    pen.ellipse((20, 200, 25, 205), (40, 40, 40))
    pixels = np.asarray(image) * np.linspace(1, 0.5, 300)[None, :, None]
    noisy = pixels + np.random.default_rng(1).normal(0, 4, pixels.shape)
    photo = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    assert difference(framed(photo), reference) < 0.3


@pytest.mark.parametrize("width", [1, 2, 5, 12, 24, 36])
def test_strokes_of_any_width_come_out_as_wide_as_mnist_has_them(width: int) -> None:
    large = Image.fromarray(framed(drawn_seven(width=width))).resize((32 * SUPERSAMPLING,) * 2)
    thinnest, thickest = STROKE_WIDTHS
    assert 0.8 * thinnest < stroke_width(np.asarray(large)) / SUPERSAMPLING < 1.1 * thickest


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_digit_in_mnists_frame_comes_back_as_it_is(
    reference: NDArray[np.float32], padding: int, inverted: bool
) -> None:
    digit = np.round(reference * 255).astype(np.uint8)
    cropped = digit[2 - padding : 30 + padding, 2 - padding : 30 + padding]
    sent = 255 - cropped if inverted else cropped
    np.testing.assert_allclose(framed(Image.fromarray(sent)), digit / np.float32(255), atol=0.5 / 255)


@pytest.mark.parametrize("color", ["white", "black", "gray", "teal"])
@pytest.mark.parametrize("size", SIZES)
def test_a_blank_picture_is_all_background(color: str, size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(framed(Image.new("RGB", size, color)), np.zeros((32, 32), np.float32))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [2, 256])
def test_any_pixels_give_finite_values_from_0_to_1(size: tuple[int, int], levels: int) -> None:
    random = np.random.default_rng(5)
    pixels = random.integers(0, levels, (size[1], size[0], 3)) * (255 // (levels - 1))
    result = framed(Image.fromarray(pixels.astype(np.uint8)))
    assert result.dtype == np.float32
    assert result.shape == (32, 32)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


def test_any_input_size_is_served() -> None:
    pixels = np.asarray(drawn_seven())
    assert extent(frame_ink(pixels, 64, 48, 40)) in (39, 40, 41)
    assert frame_ink(pixels, 64, 48, 40).shape == (64, 48)
