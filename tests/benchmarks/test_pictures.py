import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hands import STYLES, any_hand, write
from benchmarks.pictures import draw, draw_one, turn
from benchmarks.samples import SAMPLES, Sample
from benchmarks.samples import draw as draw_sample
from benchmarks.scenes import SCENES
from service.framing import frame_ink
from service.images import decode

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_is_an_image_that_the_service_reads_and_finds_ink_in(scene: str) -> None:
    picture = draw_one(5, scene, np.random.default_rng(1))
    ink = frame_ink(decode(picture.data), 32, 32, 20)
    assert picture.name(7).startswith(f"0007_label-5_{scene}.")
    assert ink.sum() > 20


def test_the_same_seed_draws_the_same_pictures() -> None:
    first = draw(seed=3, count=4)
    assert draw(seed=3, count=4) == first
    assert draw(seed=4, count=4) != first


def test_digits_and_scenes_take_turns() -> None:
    pairs = [turn(number) for number in range(10 * len(SCENES))]
    assert len(set(pairs)) == len(pairs)
    assert [(picture.label, picture.scene) for picture in draw(seed=1, count=4)] == pairs[:4]


@pytest.mark.parametrize("digit", range(10))
def test_every_digit_is_written_in_several_styles_one_high(digit: int) -> None:
    rng = np.random.default_rng(0)
    written = [write(digit, any_hand(rng), rng) for _ in range(60)]
    assert {style for style, _ in written} == set(STYLES[digit])
    assert len(STYLES[digit]) >= 3
    for _, strokes in written:
        heights = np.concatenate(strokes)[:, 1]
        assert np.ptp(heights) == pytest.approx(1)


def test_the_command_writes_the_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.pictures", str(tmp_path), "--count", "3", "--seed", "2"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    expected = {picture.name(number): picture.data for number, picture in enumerate(draw(2, 3))}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_samples_are_small_and_as_committed(sample: Sample) -> None:
    committed = (ROOT / "samples" / "handwritten" / sample.name).read_bytes()
    assert len(committed) < 30_000
    # Encoders differ from one release of Pillow to the next, by less than this.
    np.testing.assert_allclose(decode(committed), decode(draw_sample(sample)), atol=20)
