"""Gradient descent: forward, error, backpropagation, step, over all images again and again.

What a step draws at random depends on the seed and the step's number alone, so a run that was cut anywhere
and resumed ends with the same weights, bit for bit, as one that wasn't.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import cos, pi
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from training.augment import augment
from training.evaluate import as_input, count_errors, predict
from training.loss import loss_of
from training.model import LeNet, random_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from training.data import Digits
    from training.settings import Settings

_ORDER, _DISTORTION = 0, 1  # what a random stream is for
_WARMUP = 0.05  # share of the run in which the learning rate rises, so that the random start doesn't blow up


class TrainingError(Exception):
    """The run can't be made on these images."""


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; `loss` and `error_percent` are on the distorted training images."""

    epoch: int
    loss: float
    error_percent: float
    held_out_error_percent: float | None


@dataclass
class Run:
    """A training run as it stands: what a checkpoint holds."""

    settings: Settings
    model: LeNet
    average: AveragedModel
    optimizer: torch.optim.SGD
    images: int = 0  # that it trains on
    step: int = 0
    loss_sum: float = 0.0  # over the steps of this epoch
    errors: int = 0  # over the steps of this epoch
    history: list[Epoch] = field(default_factory=list)

    @property
    def averaged(self) -> LeNet:
        """The network with the averaged weights: what a run is for."""
        return cast("LeNet", self.average.module)

    @property
    def finished(self) -> bool:
        """Whether every epoch is done."""
        return len(self.history) == self.settings.epochs


def start(settings: Settings) -> Run:
    """Return a run that hasn't taken a step."""
    model = random_start(settings.seed)
    average = AveragedModel(model, multi_avg_fn=_moving_average(settings.average_decay))
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )
    return Run(settings, model, average, optimizer)


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Make the exponential moving average of swa_utils, but let the random start fade sooner.

    The share of new weights falls from 9/11 as TensorFlow's ExponentialMovingAverage(num_updates) has it.
    """

    def update(averages: tuple[Tensor, ...], weights: tuple[Tensor, ...], updates: Tensor) -> None:
        share = max(1 - decay, 9 / (10 + int(updates)))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, share)

    return update


def train(
    run: Run, digits: Digits, *, stopped: Callable[[], bool], save: Callable[[Run], None], quiet: bool = False
) -> None:
    """Take `run` to its end, or to where `stopped` says so.

    `save` is called after every epoch and when stopped.

    Raises:
        TrainingError: there are fewer images than a batch.
    """
    settings = run.settings
    torch.set_num_threads(settings.threads)
    kept, held_out = split(digits, settings.held_out)
    run.images = len(kept)
    steps_per_epoch = len(kept) // settings.batch_size
    if not steps_per_epoch:
        raise TrainingError(
            f"{len(kept)} images to train on, expected at least a batch of {settings.batch_size}"
        )
    total = steps_per_epoch * settings.epochs
    with tqdm(total=total, initial=run.step, unit="step", disable=quiet) as bar:
        while run.step < total and not stopped():
            _step(run, kept, steps_per_epoch, total)
            bar.update()
            if run.step % steps_per_epoch == 0:
                _close_epoch(run, steps_per_epoch, held_out)
                save(run)
            _describe(bar, run, steps_per_epoch)
    save(run)


def split(digits: Digits, held_out: int) -> tuple[Digits, Digits]:
    """Cut the last `held_out` images off."""
    edge = max(0, len(digits) - held_out)
    return digits[:edge], digits[edge:]


def learning_rate(step: int, total: int, highest: float) -> float:
    """Rise linearly, then fall to 0 along a half cosine (I. Loshchilov, F. Hutter, "SGDR", 2017)."""
    progress = step / total
    if progress < _WARMUP:
        return highest * (step + 1) / (_WARMUP * total + 1)
    return highest * (1 + cos(pi * (progress - _WARMUP) / (1 - _WARMUP))) / 2


def _step(run: Run, digits: Digits, steps_per_epoch: int, total: int) -> None:
    settings = run.settings
    images, labels = _batch(run, digits, steps_per_epoch)
    images = augment(images, settings.augmentation, _generator(settings.seed, _DISTORTION, run.step))
    outputs = run.model.outputs(images)
    loss = loss_of(outputs, labels, settings.loss)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, total, settings.learning_rate)
    run.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
    run.optimizer.step()
    run.average.update_parameters(run.model)
    run.loss_sum += loss.item()
    run.errors += int((outputs["logits"].argmax(dim=1) != labels).sum())
    run.step += 1


def _batch(run: Run, digits: Digits, steps_per_epoch: int) -> tuple[Tensor, Tensor]:
    epoch, position = divmod(run.step, steps_per_epoch)
    size = run.settings.batch_size
    chosen = _order(run.settings.seed, epoch, len(digits))[position * size : (position + 1) * size]
    return as_input(digits.images[chosen]), torch.from_numpy(digits.labels[chosen])


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Shuffle the images' numbers; kept for all steps of an epoch."""
    shuffled: NDArray[np.int64] = torch.randperm(count, generator=_generator(seed, _ORDER, epoch)).numpy()
    return shuffled


def _generator(seed: int, stream: int, index: int) -> Generator:
    mixed = np.random.SeedSequence((seed, stream, index)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


def _close_epoch(run: Run, steps: int, held_out: Digits) -> None:
    held_out_error = None
    if len(held_out):
        held_out_error = 100 * count_errors(predict(run.averaged, held_out), held_out) / len(held_out)
    loss, error = run.loss_sum / steps, 100 * run.errors / (steps * run.settings.batch_size)
    run.history.append(Epoch(len(run.history) + 1, loss, error, held_out_error))
    run.loss_sum, run.errors = 0.0, 0


def _describe(bar: tqdm[NoReturn], run: Run, steps_per_epoch: int) -> None:
    done = run.step % steps_per_epoch
    if done:
        loss, error = run.loss_sum / done, 100 * run.errors / (done * run.settings.batch_size)
    else:
        loss, error = run.history[-1].loss, run.history[-1].error_percent
    epoch = min(run.step // steps_per_epoch + 1, run.settings.epochs)
    bar.set_description_str(f"epoch {epoch}/{run.settings.epochs}", refresh=False)
    bar.set_postfix_str(f"loss {loss:.4f}, error {error:.2f} %", refresh=False)
