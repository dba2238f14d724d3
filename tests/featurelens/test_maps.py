from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from featurelens.maps import INPUT, draw_layer, draw_overview, pages
from featurelens.maps.colors import Scale
from featurelens.maps.pieces import INK, label, tile
from featurelens.results import Array

WHITE = [247, 247, 247]
RED = [103, 0, 31]
BLUE = [5, 48, 97]
GREY = [128, 128, 128]


def test_a_signed_layer_is_centered_on_white_zero() -> None:
    scale = Scale.of(np.array([-1.0, 4.0]))

    assert (scale.low, scale.high) == (-4.0, 4.0)
    assert scale.colors(np.array([-4.0, 0.0, 4.0])).tolist() == [BLUE, WHITE, RED]


def test_a_layer_without_negatives_uses_the_red_half() -> None:
    scale = Scale.of(np.array([0.0, 4.0]))

    assert (scale.low, scale.high) == (0.0, 4.0)
    assert scale.colors(np.array([0.0, 4.0])).tolist() == [WHITE, RED]
    np.testing.assert_array_equal(scale.colors(np.array([1.0])), Scale(-4.0, 4.0).colors(np.array([1.0])))


def test_luminance_falls_with_the_value() -> None:
    luminance = Scale(0.0, 1.0).colors(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])

    assert (np.diff(luminance) < 0).all()


def test_what_is_not_finite_is_grey_and_does_not_stretch_the_scale() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 2.0])
    scale = Scale.of(values)

    assert (scale.low, scale.high) == (0.0, 2.0)
    assert scale.colors(values).tolist() == [GREY, GREY, GREY, RED]


@pytest.mark.parametrize("values", [np.zeros(3), np.array([]), np.full(2, np.nan)])
def test_a_layer_without_values_has_a_scale(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    assert Scale.of(values) == Scale(0.0, 1.0)


def test_a_tile_shows_every_pixel_as_a_square() -> None:
    picture = np.asarray(tile(np.array([[0.0, 1.0], [1.0, 0.0]]), Scale(0.0, 1.0), side=9))

    assert picture.shape == (10, 10, 3)  # 2 pixels of 4x4 and the frame: 9 is no multiple of 2
    for row, column, color in ((1, 1, WHITE), (4, 4, WHITE), (1, 5, RED), (8, 4, RED), (8, 8, WHITE)):
        assert picture[row, column].tolist() == color


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.random.default_rng(0).normal(size=(6, 28, 28)).astype(np.float32), id="conv"),
        pytest.param(np.ones((1, 1, 1), np.float32), id="one pixel"),
        pytest.param(np.zeros((300, 4, 4), np.float32), id="more channels than a page shows"),
        pytest.param(np.zeros((3, 300, 500), np.float32), id="larger than a tile"),
        pytest.param(np.zeros((2, 3, 4, 5), np.float32), id="five axes with the batch"),
        pytest.param(np.zeros((7, 9), np.float32), id="matrix"),
        pytest.param(np.arange(-5, 5, dtype=np.int64), id="short vector"),
        pytest.param(np.linspace(-1, 1, 1000), id="long vector"),
        pytest.param(np.array(3.5, np.float32), id="scalar"),
        pytest.param(np.array([True, False]), id="bool"),
        pytest.param(np.full((2, 3, 3), np.nan, np.float32), id="NaN"),
        pytest.param(np.zeros((0, 3, 3), np.float32), id="no channel"),
        pytest.param(np.zeros(0, np.float32), id="no element"),
        pytest.param(np.zeros((0, 4), np.float32), id="no row"),
        pytest.param(np.zeros((3, 0, 4), np.float32), id="no pixel"),
        pytest.param(np.zeros((2, 0, 3, 4), bool), id="no channel of five axes"),
        pytest.param(np.zeros((1, 3000), np.uint8), id="a row"),
        pytest.param(np.array([1e30, -1e-30], np.float32), id="far apart"),
    ],
)
def test_any_layer_can_be_drawn(values: Array) -> None:
    page = draw_layer("layer", values)
    overview = draw_overview("picture.png", {"layer": values}, np.zeros((1, 32, 32), np.float32))

    for picture in (page, overview):
        assert 50 < picture.width < 4000
        assert 50 < picture.height < 4000


def test_a_page_holds_its_tiles_once_each_in_order() -> None:
    channels = np.eye(4, dtype=np.float32).reshape(4, 2, 2)  # channel i has its one in another corner or row
    page = np.asarray(draw_layer("conv1", channels))
    red = np.argwhere((page == RED).all(axis=-1))

    # 4 dark squares of 84x84 pixels, and the legend's dark end
    assert 4 * 84 * 84 <= len(red) <= 4 * 84 * 84 + 200


def test_bars_are_named_by_the_classes() -> None:
    logits = np.array([1.0, -1.0], np.float32)

    named, unnamed, misnamed = (
        draw_layer("logits", logits, labels).tobytes()
        for labels in (["cat", "dog"], [], ["too", "many", "labels"])
    )

    assert named != unnamed
    assert misnamed == unnamed


def test_channels_last_are_drawn_as_channels_first_are() -> None:
    values = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    last = np.moveaxis(values, 0, -1)
    page, moved = draw_layer("x", values), draw_layer("x", last, channel_axis=-1)
    overviews = [
        draw_overview("title", {"x": values}, values, channel_axes={"x": -3, INPUT: -3}),
        draw_overview("title", {"x": last}, last, channel_axes={"x": -1, INPUT: -1}),
    ]

    below = (0, 80, page.width, page.height)  # the title tells another shape
    assert page.crop(below).tobytes() == moved.crop(below).tobytes()
    right = [overview.crop((150, 50, overview.width, overview.height)).tobytes() for overview in overviews]
    assert right[0] == right[1]
    assert draw_layer("x", last[None], channel_axis=-1).size == moved.size  # a batch of one


@pytest.mark.parametrize("axis", [0, -1, -3])
def test_vectors_and_matrices_have_no_channels_to_move(axis: int) -> None:
    for values in (np.arange(5.0), np.eye(4)):
        assert draw_layer("x", values, channel_axis=axis).tobytes() == draw_layer("x", values).tobytes()


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written on the pictures that the test draws."""
    written: list[str] = []

    def write(text: str, size: int = 13, ink: tuple[int, int, int] = INK) -> Image.Image:
        written.append(text)
        return label(text, size, ink)

    monkeypatch.setattr(pages, "label", write)
    return written


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.zeros((512, 4, 4)), ["64 of 512 channels"]),
        (np.zeros((64, 4, 4)), []),
        (np.zeros(2048), ["960 of 2048 elements"]),
        (np.zeros(960), []),
    ],
)
def test_an_overview_tells_what_it_leaves_out(values: Array, told: list[str], texts: list[str]) -> None:
    draw_overview("title", {"layer": values})

    assert [text for text in texts if " of " in text] == told


def test_a_page_tells_how_many_channels_it_shows(texts: list[str]) -> None:
    draw_layer("x", np.zeros((512, 2, 2)))

    assert [text.split("    ")[-1] for text in texts if " of " in text] == ["256 of 512 channels"]


def test_an_overview_of_many_layers_shows_some_and_says_so(texts: list[str]) -> None:
    draw_overview("title", {f"layer{index}": np.zeros(2) for index in range(700)})

    assert "100 of 700 layers" in texts
    assert "layer99" in texts
    assert "layer100" not in texts
