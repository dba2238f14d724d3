"""Every number that decides what a training run ends with. The defaults are the shipped model's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from training.augment import Augmentation

LossName = Literal["cross-entropy", "squared-error"]


def _setting(default: Any, help_text: str) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class Settings:
    """One training run, together with the data and the library versions."""

    seed: int = _setting(1, "decides the random start, the order of the images and their distortions")
    epochs: int = _setting(40, "times that every training image is seen")
    batch_size: int = _setting(128, "images a gradient step")
    loss: LossName = _setting("cross-entropy", "cross-entropy, or squared-error: sum of 1/2 (target - output)^2")
    learning_rate: float = _setting(0.05, "step of the gradient descent at its highest")
    momentum: float = _setting(0.9, "Nesterov momentum")
    weight_decay: float = _setting(5e-4, "pull of the weights towards 0")
    average_decay: float = _setting(0.999, "decay of the moving average of the weights, which is what is kept")
    held_out: int = _setting(0, "training images kept aside, from the end, to compare settings on")
    threads: int = _setting(1, "CPU threads; another number rounds differently")
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("momentum", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more and less than 1")
