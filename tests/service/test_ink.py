import numpy as np
import pytest
from numpy.typing import NDArray

from service.ink import ink_contrast
from service.regions import components
from service.strokes import main_ink

SEED = 3


def flood_filled(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The parts of a mask, found one pixel at a time."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts = []
    while left:
        part, border = set(), [left.pop()]
        while border:
            y, x = border.pop()
            part.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border.extend(near)
        parts.append(part)
    return parts


def stroke_on(paper: NDArray[np.float64], ink: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Put a bar into the middle of some paper [H, W, 3]."""
    pixels = paper.copy()
    height, width = pixels.shape[:2]
    pixels[height // 4 : -height // 4, width // 2 - 3 : width // 2 + 3] = ink
    return pixels.round().astype(np.uint8)


def even_paper(color: tuple[int, int, int]) -> NDArray[np.float64]:
    return np.tile(np.array(color, dtype=np.float64), (60, 60, 1))


def test_components_are_those_of_a_flood_fill() -> None:
    random = np.random.default_rng(SEED)
    for _ in range(60):
        mask = random.random((random.integers(1, 16), random.integers(1, 16))) < random.random()
        labels = components(mask)
        numbers = range(1, int(labels.max()) + 1)
        found = [{(int(y), int(x)) for y, x in np.argwhere(labels == number)} for number in numbers]
        assert sorted(map(sorted, found)) == sorted(map(sorted, flood_filled(mask)))


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        ((255, 255, 255), (0, 0, 0)),
        ((20, 20, 20), (240, 240, 240)),
        ((250, 240, 200), (30, 40, 150)),
        ((30, 70, 50), (250, 240, 150)),
        ((200, 60, 60), (60, 130, 60)),  # the same luma: only color tells them apart
    ],
)
def test_ink_is_1_and_background_0_whatever_their_colors(
    paper: tuple[int, int, int], ink: tuple[int, int, int]
) -> None:
    expected = stroke_on(even_paper((0, 0, 0)), (1, 1, 1))[..., 0]
    np.testing.assert_allclose(ink_contrast(stroke_on(even_paper(paper), ink)), expected, atol=1e-5)


def test_shadow_is_no_ink() -> None:
    slope = np.linspace(1, 0.4, 60)[:, None, None] * np.linspace(1, 0.7, 60)[None, :, None]
    contrast = ink_contrast(stroke_on(even_paper((250, 250, 245)) * slope, (20, 20, 20)))
    ink = stroke_on(even_paper((0, 0, 0)), (1, 1, 1))[..., 0] == 1
    assert contrast[~ink].max() < 0.1
    assert contrast[ink].min() > 0.4


def test_the_edge_of_a_dark_shadow_across_a_stroke_is_no_ink() -> None:
    y, x = np.mgrid[0:240, 0:240]
    shadow = 1 - 0.65 / (1 + np.exp((180 - y - 0.6 * x) / 8))
    paper = np.tile(np.array((250.0, 250, 245)), (240, 240, 1)) * shadow[..., None]
    contrast = ink_contrast(stroke_on(paper, (10, 10, 10)))
    stroke = stroke_on(np.zeros((240, 240, 3)), (1, 1, 1))[..., 0] == 1
    assert contrast[~stroke].max() < 0.25
    assert contrast[stroke].min() > 0.25


@pytest.mark.parametrize("sigma", [0, 1, 4, 9])
def test_blank_paper_has_no_ink(sigma: float) -> None:
    noise = np.random.default_rng(SEED).normal(0, sigma, (120, 100, 3))
    paper = np.clip(200 + noise, 0, 255).astype(np.uint8)
    assert not ink_contrast(paper).any()


def test_specks_are_dropped() -> None:
    contrast = np.zeros((100, 100), dtype=np.float32)
    contrast[20:80, 45:52] = 1
    stroke = contrast.copy()
    contrast[10:12, 10:12] = contrast[90, 80] = 1
    np.testing.assert_array_equal(main_ink(contrast), stroke)


def test_strokes_apart_are_kept() -> None:
    contrast = np.zeros((100, 100), dtype=np.float32)
    contrast[30:80, 45:52] = contrast[15:20, 40:70] = 1
    np.testing.assert_array_equal(main_ink(contrast), contrast)


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
@pytest.mark.parametrize("gap", [0, 6])
def test_the_edge_of_a_table_is_dropped_even_where_a_stroke_touches_it(side: str, gap: int) -> None:
    contrast = np.zeros((100, 100), dtype=np.float32)
    contrast[10 + gap : 70, 45:52] = 1
    stroke = contrast.copy()
    contrast[:10] = 1
    turns = {"top": 0, "left": 1, "bottom": 2, "right": 3}[side]
    np.testing.assert_array_equal(main_ink(np.rot90(contrast, turns)), np.rot90(stroke, turns))


def test_a_stroke_that_fills_the_picture_is_kept() -> None:
    contrast = np.zeros((40, 30), dtype=np.float32)
    contrast[:, 8:20] = 1
    np.testing.assert_array_equal(main_ink(contrast), contrast)


def test_a_picture_full_of_ink_is_left_alone() -> None:
    contrast = np.ones((20, 20), dtype=np.float32)
    np.testing.assert_array_equal(main_ink(contrast), contrast)
