"""Make a model's input of a decoded picture, as the model's own description of its preprocessing says."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from service.errors import InvalidRequestError, ModelLoadError
from service.framing import frame_ink

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Side = Annotated[int, Field(ge=0, le=16_384)]
PerChannel = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=3)]

_DESCRIPTIONS = {
    "ink": "The ink is told from its background, scaled into a box of {box}x{box}, and centered by its mass "
    "in {height}x{width}: background {background:g}, ink {ink:g}.",
    "resize": "The picture is resized to {height}x{width}, its aspect not kept; values times {scale:g}, "
    "minus {mean}, over {std}.",
    "none": "Tensors only: the model file does not say how to make its input of a picture.",
}


class Preprocessing(BaseModel):
    """How pictures become a model's input. Fields of the other kinds are ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ink", "resize", "none"]
    """ink: find a handwritten character and frame it; resize: the whole picture; none: no pictures."""
    channels: Literal[1, 3] = 1
    """1 grey, 3 RGB."""
    height: Side = 0
    width: Side = 0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    box: Side = 20
    """ink: side of the square that the character is scaled into, in pixels."""
    background: FiniteFloat = 0.0
    """ink: value of paper."""
    ink: FiniteFloat = 1.0
    """ink: value of ink."""
    scale: FiniteFloat = 1 / 255
    """resize: what 8-bit levels are multiplied by first."""
    mean: PerChannel = (0.0,)
    """resize: subtracted then; one for all channels or one for each."""
    std: PerChannel = (1.0,)
    """resize: divided by last; one for all channels or one for each."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the description that a model file carries.

        Raises:
            ModelLoadError: naming every field that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _load_error(error) from error

    @property
    def description(self) -> str:
        """What is done, in one sentence for people."""
        return _DESCRIPTIONS[self.kind].format(**self.model_dump())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind != "none" and not (self.height and self.width):
            raise ValueError(f"height and width must be at least 1, not {self.height} and {self.width}")
        if self.kind == "ink" and not 1 <= self.box <= min(self.height, self.width):
            raise ValueError(f"a box of {self.box} does not fit into {self.height}x{self.width}")
        if any(len(values) not in (1, self.channels) for values in (self.mean, self.std)):
            raise ValueError(f"mean and std must have 1 value or {self.channels}, one for each channel")
        if 0 in self.std:
            raise ValueError("std must not be 0")
        return self


def prepare(picture: Pixels, preprocessing: Preprocessing, enabled: bool = True) -> Floats:
    """Make the input [C, H, W] (or [H, W, C], as the layout says) of one picture [H, W, 1 or 3].

    With `enabled` false, kind "ink" detects, inverts, crops and centers nothing. Black is background, and
    white is ink. A picture that fits into the input is padded with background on all sides, as the LeNet
    paper pads 28x28 to 32x32. A larger one is resized. Kind "resize" is the same either way.

    Raises:
        InvalidRequestError: the model takes tensors only.
    """
    if preprocessing.kind == "none":
        raise InvalidRequestError(
            "the model takes tensors, not image files: send a tensor of its input's shape"
        )
    if preprocessing.kind == "resize":
        values = _normalized(picture, preprocessing)
    elif enabled:
        values = _from_ink(_framed(picture, preprocessing), preprocessing)
    else:
        values = _from_ink(_fitted(_in_channels(picture, preprocessing), preprocessing), preprocessing)
    return np.ascontiguousarray(values if preprocessing.layout == "NHWC" else values.transpose(2, 0, 1))


def _framed(picture: Pixels, preprocessing: Preprocessing) -> Floats:
    framed = frame_ink(picture, preprocessing.height, preprocessing.width, preprocessing.box)
    return np.repeat(framed[..., None], preprocessing.channels, axis=2)


def _from_ink(coverage: Floats, preprocessing: Preprocessing) -> Floats:
    """Map 0 to the model's background and 1 to its ink."""
    background, ink = preprocessing.background, preprocessing.ink
    return (background + (ink - background) * coverage).astype(np.float32)


def _fitted(picture: Pixels, preprocessing: Preprocessing) -> Floats:
    """Bring the picture to the model's size, 0 to 1: padded with 0 if it fits, else resized."""
    height, width = preprocessing.height, preprocessing.width
    rows, columns = height - picture.shape[0], width - picture.shape[1]
    if rows < 0 or columns < 0:
        return _resized(picture, height, width).astype(np.float32) / np.float32(255)
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(picture, around).astype(np.float32) / np.float32(255)


def _normalized(picture: Pixels, preprocessing: Preprocessing) -> Floats:
    """Resize, then (levels * scale - mean) / std, the order in which torchvision's models were trained."""
    resized = _resized(_in_channels(picture, preprocessing), preprocessing.height, preprocessing.width)
    scaled = resized.astype(np.float32) * np.float32(preprocessing.scale)
    mean, std = (np.array(values, dtype=np.float32) for values in (preprocessing.mean, preprocessing.std))
    return np.asarray((scaled - mean) / std, dtype=np.float32)


def _resized(picture: Pixels, height: int, width: int) -> Pixels:
    """Resize bilinearly; when shrinking, over all the pixels that a new one covers."""
    resized = np.asarray(_image(picture).resize((width, height), Image.Resampling.BILINEAR))
    return resized.reshape(height, width, picture.shape[2])


def _in_channels(picture: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Convert grey to RGB or RGB to grey (luma of ITU-R BT.601), if need be."""
    if picture.shape[2] == preprocessing.channels:
        return picture
    converted = np.asarray(_image(picture).convert("L" if preprocessing.channels == 1 else "RGB"))
    return converted.reshape(*picture.shape[:2], preprocessing.channels)


def _image(picture: Pixels) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)


def _load_error(error: ValidationError) -> ModelLoadError:
    problems = "; ".join(
        ": ".join(filter(None, [".".join(map(str, problem["loc"])), problem["msg"]]))
        for problem in error.errors()
    )
    return ModelLoadError(f"the description of the model's preprocessing is not valid: {problems}")
