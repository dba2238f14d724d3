"""Every number that decides what a training run ends with. The defaults are the shipped model's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_type_hints

LossName = Literal["cross-entropy", "squared-error"]


@dataclass(frozen=True)
class Augmentation:
    """How far distortions may go; each is drawn anew for every image, and 0 switches it off."""

    rotation_degrees: Annotated[float, "largest rotation, either way"] = 8.0
    scale: Annotated[float, "largest relative change of width and of height"] = 0.08
    shear: Annotated[float, "largest slant, as the tangent of its angle, either way"] = 0.12
    shift_pixels: Annotated[float, "largest shift along each axis"] = 2.0
    elastic_pixels: Annotated[float, "standard deviation of the elastic field"] = 0.5
    stroke: Annotated[float, "largest step towards strokes a pixel thicker or thinner on each side"] = 0.3
    blur: Annotated[float, "largest share of a 3x3 mean that is mixed in"] = 0.3
    gain: Annotated[float, "largest relative change of the ink's strength"] = 0.2
    noise: Annotated[float, "largest standard deviation of the noise, in ink"] = 0.03


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Settings:
    """One training run; the data and the library versions decide the rest."""

    seed: Annotated[int, "decides the random start, the order of the images and their distortions"] = 1
    epochs: Annotated[int, "times that every training image is seen"] = 40
    batch_size: Annotated[int, "images a gradient step"] = 64
    loss: Annotated[LossName, "what is descended; squared-error is sum of 1/2 (target - output)^2"] = (
        "cross-entropy"
    )
    learning_rate: Annotated[float, "step of the gradient descent at its highest"] = 0.02
    momentum: Annotated[float, "Nesterov momentum"] = 0.9
    weight_decay: Annotated[float, "pull of the weights towards 0"] = 1e-4
    average_decay: Annotated[float, "decay of the moving average of the weights, which is what is kept"] = (
        0.999
    )
    held_out: Annotated[int, "training images kept aside, from the end, to compare settings on"] = 0
    threads: Annotated[int, "CPU threads; with another number, sums round differently"] = 1
    augmentation: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("momentum", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more and less than 1")
        negative = [name for name, value in flat(self).items() if name != "loss" and value < 0]
        if negative:
            raise ValueError(f"{negative[0]} is negative, expected 0 or more")


def flat(settings: Settings) -> dict[str, Any]:
    """Return all settings by name, the augmentation's among them."""
    return flatten(asdict(settings))


def flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Return `settings`, as dataclasses.asdict gives them, with the augmentation's among the others."""
    outer = {name: value for name, value in settings.items() if name != "augmentation"}
    return {**outer, **settings["augmentation"]}


def change(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Return `settings` with `changes`, by the names that `flat` gives.

    Raises:
        ValueError: a value is out of range.
    """
    new = {**flat(settings), **changes}
    inner = {name: new.pop(name) for name in asdict(settings.augmentation)}
    return Settings(**new, augmentation=Augmentation(**inner))


def explanations() -> dict[str, str]:
    """Return what each setting means, by its name."""
    hints = get_type_hints(Settings, include_extras=True) | get_type_hints(Augmentation, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
