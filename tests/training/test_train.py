from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
import torch

from training import checkpoint
from training.evaluate import count_errors, predict
from training.settings import NO_AUGMENTATION, Settings
from training.train import Run, TrainingError, learning_rate, split, start, train

if TYPE_CHECKING:
    from pathlib import Path

    from training.data import Digits
    from training.settings import LossName

SHORT = Settings(epochs=3, batch_size=32)  # 30 steps over the 320 images


def run_to_the_end(settings: Settings, digits: Digits) -> Run:
    run = start(settings)
    train(run, digits, stopped=lambda: False, save=lambda _: None, quiet=True)
    return run


def assert_equal_runs(run: Run, other: Run) -> None:
    """Bit for bit: weights, averages and the training curve."""
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name
    for name, weight in run.averaged.state_dict().items():
        assert torch.equal(weight, other.averaged.state_dict()[name]), name
    assert run.history == other.history


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_learns_32_images_by_heart(train_digits: Digits, loss: LossName) -> None:
    digits = train_digits[:32]
    settings = Settings(epochs=60, batch_size=32, loss=loss, augmentation=NO_AUGMENTATION, average_decay=0.5)
    run = run_to_the_end(replace(settings, learning_rate=0.1), digits)
    assert count_errors(predict(run.averaged, digits), digits) == 0


def test_learns_to_classify_images_it_has_not_seen(train_digits: Digits, test_digits: Digits) -> None:
    run = run_to_the_end(replace(SHORT, epochs=8), train_digits)
    assert count_errors(predict(run.averaged, test_digits), test_digits) <= 5


def test_two_runs_are_equal_bit_for_bit(train_digits: Digits) -> None:
    assert_equal_runs(run_to_the_end(SHORT, train_digits), run_to_the_end(SHORT, train_digits))


def test_another_seed_gives_other_weights(train_digits: Digits) -> None:
    run, other = (run_to_the_end(replace(SHORT, seed=seed, epochs=1), train_digits) for seed in (1, 2))
    assert not torch.equal(run.model.state_dict()["fc1.weight"], other.model.state_dict()["fc1.weight"])


@pytest.mark.parametrize("steps", [0, 1, 10, 17, 29])
def test_a_run_that_was_stopped_and_resumed_equals_an_unbroken_one(
    train_digits: Digits, tmp_path: Path, steps: int
) -> None:
    path, asked = tmp_path / "checkpoint", count()
    broken = start(SHORT)
    train(
        broken,
        train_digits,
        stopped=lambda: next(asked) == steps,
        save=lambda run: checkpoint.save(run, path),
        quiet=True,
    )
    assert (broken.step, broken.finished) == (steps, False)
    resumed = checkpoint.load(path)
    train(resumed, train_digits, stopped=lambda: False, save=lambda _: None, quiet=True)
    assert resumed.finished
    assert_equal_runs(resumed, run_to_the_end(SHORT, train_digits))


def test_every_epoch_is_saved(train_digits: Digits) -> None:
    saved: list[int] = []
    train(
        start(SHORT), train_digits, stopped=lambda: False, save=lambda run: saved.append(run.step), quiet=True
    )
    assert saved[:3] == [10, 20, 30]


def test_held_out_images_are_the_last_ones_and_are_only_measured(train_digits: Digits) -> None:
    kept, held_out = split(train_digits, 20)
    assert (len(kept), len(held_out)) == (300, 20)
    assert held_out.labels.tolist() == train_digits.labels[-20:].tolist()
    with_them = run_to_the_end(replace(SHORT, held_out=20), train_digits)
    without = run_to_the_end(SHORT, kept)
    assert torch.equal(with_them.model.state_dict()["conv1.bias"], without.model.state_dict()["conv1.bias"])
    measured = [epoch.held_out_error_percent for epoch in with_them.history]
    assert all(error is not None and 0 <= error <= 100 for error in measured)


@pytest.mark.parametrize(("held_out", "left"), [(300, 20), (320, 0), (1000, 0)])
def test_fewer_images_than_a_batch_are_refused(train_digits: Digits, held_out: int, left: int) -> None:
    with pytest.raises(TrainingError, match=f"^{left} images to train on, expected at least a batch of 32$"):
        run_to_the_end(replace(SHORT, held_out=held_out), train_digits)


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, 1000, 0.1) for step in range(1001)]
    assert rates.index(max(rates)) == 50
    assert max(rates) == pytest.approx(0.1)
    assert rates[0] < 0.005
    assert rates[1000] == pytest.approx(0)
    assert rates[:50] == sorted(rates[:50])
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_the_average_trails_the_weights(train_digits: Digits) -> None:
    run = run_to_the_end(replace(SHORT, epochs=1), train_digits)
    assert not torch.equal(run.averaged.state_dict()["fc2.weight"], run.model.state_dict()["fc2.weight"])


def test_without_decay_the_average_is_the_last_weights(train_digits: Digits) -> None:
    run = run_to_the_end(
        replace(SHORT, epochs=1, average_decay=0.0, augmentation=NO_AUGMENTATION), train_digits
    )
    torch.testing.assert_close(run.averaged.state_dict(), run.model.state_dict())
