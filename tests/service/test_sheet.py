from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from service.framing import frame_ink
from service.sheet import innermost_sheet
from tests.service.papers import AROUND, DRAWINGS, SAMPLES, SIDE, Draw, blank, framed, sheet

LENET = Path(__file__).parents[2] / "models" / "lenet" / "1" / "model.onnx"
SEED = 11


@pytest.fixture(scope="module")
def lenet() -> ort.InferenceSession:
    return ort.InferenceSession(LENET.read_bytes())


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]


def ink_of(image: Image.Image) -> NDArray[np.float32]:
    return frame_ink(pixels(image), 32, 32, 20)


def noisy(image: Image.Image, sigma: float) -> Image.Image:
    noise = np.random.default_rng(SEED).normal(0, sigma, (*image.size[::-1], 1))
    return Image.fromarray((pixels(image) + noise).clip(0, 255).astype(np.uint8).squeeze())


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_every_digit_is_found_whatever_is_around_it(draw: Draw, lenet: ort.InferenceSession) -> None:
    inputs = np.stack([ink_of(draw(sheet(sample)))[None] for sample in SAMPLES])
    (probabilities,) = lenet.run(["probabilities"], {"image": inputs})
    found = {sample.name: str(label) for sample, label in zip(SAMPLES, probabilities.argmax(1), strict=True)}
    assert {name: label for name, label in found.items() if name[0] != label} == {}


@pytest.mark.parametrize("draw", AROUND.values(), ids=AROUND)
def test_a_blank_sheet_has_no_ink_whatever_is_around_it(draw: Draw) -> None:
    assert not ink_of(draw(blank())).any()


def speck(radius: int) -> Image.Image:
    image = blank()
    ImageDraw.Draw(image).ellipse((200 - radius, 250 - radius, 200 + radius, 250 + radius), fill=20)
    return image


def faint_shadow() -> Image.Image:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    depth = 25 / (1 + np.exp(((x - 210) ** 2 + (y - 250) ** 2 - 90**2) / 2000.0))
    return Image.fromarray((250 - depth).astype(np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (300, 200), 0),
        noisy(Image.new("L", (300, 200), 0), 5),
        noisy(blank(), 4),
        noisy(Image.new("RGB", (320, 240), (200, 190, 170)), 20),
        speck(1),
        speck(4),
        noisy(speck(9), 3),
        faint_shadow(),
    ],
    ids=["black", "black noise", "noise", "coarse noise", "dot", "speck", "blot", "shadow"],
)
def test_what_is_not_written_is_no_ink(image: Image.Image) -> None:
    assert not ink_of(image).any()


@pytest.mark.parametrize("blur", [4, 12, 20])
def test_a_digit_out_of_focus_is_ink(blur: float) -> None:
    assert all(ink_of(sheet(sample).filter(ImageFilter.GaussianBlur(blur))).any() for sample in SAMPLES[::4])


def test_a_picture_of_paper_alone_stays_as_it_is() -> None:
    for sample in SAMPLES:
        image = pixels(sheet(sample))
        cut, paper = innermost_sheet(image)
        assert cut is image
        assert paper.all()


def test_the_loops_of_digits_are_no_frames() -> None:
    loops = [sample for sample in SAMPLES if sample.name[0] in "0689"]
    for sample in loops:
        digit = sheet(sample).crop((80, 80, 340, 340))  # hardly any paper around
        assert innermost_sheet(pixels(digit))[0].shape == (260, 260, 1)


def test_a_sheet_is_cut_out_within_its_edges() -> None:
    cut, paper = innermost_sheet(pixels(framed((30, 50, 70, 90), 60)(sheet(SAMPLES[0]))))
    assert SIDE - 24 <= min(cut.shape[:2]) <= max(cut.shape[:2]) <= SIDE
    assert paper.all()
    assert cut[[0, -1]].min() == cut[:, [0, -1]].min() == 255


def test_what_is_beside_a_tilted_sheet_is_no_paper_and_has_its_color() -> None:
    cut, paper = innermost_sheet(pixels(DRAWINGS["tilted on a desk"](sheet(SAMPLES[0]))))
    assert not paper.all()
    assert cut[~paper].min() > 200


def test_the_cells_of_squared_paper_are_no_sheets() -> None:
    image = sheet(SAMPLES[0])
    pen = ImageDraw.Draw(image)
    for at in range(20, SIDE, 60):
        pen.line((at, 0, at, SIDE), 170, 3)
        pen.line((0, at, SIDE, at), 170, 3)
    assert innermost_sheet(pixels(image))[0].shape == (SIDE, SIDE, 1)


def test_ruled_paper_in_a_frame_is_a_sheet() -> None:
    image = sheet(SAMPLES[0])
    ruled = Image.new("L", image.size, 255)
    for at in range(20, SIDE, 60):
        ImageDraw.Draw(ruled).line((0, at, SIDE, at), 215, 3)
    paper = framed(6, 0)(Image.fromarray(np.minimum(np.asarray(image), np.asarray(ruled))))
    cut, _ = innermost_sheet(pixels(paper))
    assert SIDE - 24 <= min(cut.shape[:2]) <= max(cut.shape[:2]) <= SIDE
