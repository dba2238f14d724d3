"""What is said of how pictures become a model's input: in config.toml, in a model's file, or beside it."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from service.errors import ModelLoadError

Side = Annotated[int, Field(ge=0, le=16_384)]
LongSide = Annotated[int, Field(ge=1, le=16_384)]
PerChannel = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=4)]
Level = Annotated[int, Field(ge=0, le=255)]
DataType = Literal["float32", "float16", "float64", "uint8"]
Layout = Literal["NCHW", "NHWC", "NHW"]

_INK = (
    "The ink is told from its background, scaled into a box of {box}x{box}, and centered by its mass "
    "in {height}x{width}: background {background:g}, ink {ink:g}."
)
_NONE = "Tensors only: the model file does not say how to make its input of a picture."


class Preprocessing(BaseModel):
    """How pictures become a model's input. Fields of the other kinds are ignored.

    What isn't set is taken from the model's input, as far as its declaration tells it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ink", "resize", "none"] = "resize"
    """ink: find a handwritten character and frame it; resize: the whole picture; none: no pictures."""
    preset: Literal["torchvision", "timm", "huggingface"] | None = None
    """resize: as this library's models are mostly trained; other keys stand above it."""
    dtype: DataType = "float32"
    """Type of the input's elements. bfloat16 and float8 are held as float32."""
    channels: Literal[1, 3, 4] = 1
    """1 grey, 3 colors, 4 colors and alpha (opaque is 255)."""
    color: Literal["RGB", "BGR"] = "RGB"
    """Order of the colors; mean, std and fill are in the same order."""
    height: Side = 0
    width: Side = 0
    layout: Layout = "NCHW"
    """Order of the axes; NHW is grey without an axis for it."""
    box: Side = 20
    """ink: side of the square that the character is scaled into, in pixels."""
    background: FiniteFloat = 0.0
    """ink: value of paper."""
    ink: FiniteFloat = 1.0
    """ink: value of ink."""
    resize: Literal["stretch", "shorter-side", "pad"] = "stretch"
    """resize: to the size, its aspect lost; until it covers the size; until it fits into it."""
    resize_size: LongSide | tuple[LongSide, LongSide] | None = None
    """resize: that size, of a square or height and width. Unset: that of crop_pct, or the input's.
    What is larger than the input then is cropped around its center, what is smaller is padded."""
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    """resize: in place of resize_size, the part of it that the input is."""
    center: Literal["round", "floor"] = "round"
    """resize: where the center of a difference is; torchvision rounds half to even, Hugging Face down."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bilinear"
    """resize: as Pillow names its filters; when shrinking, over all the pixels that a new one covers."""
    fill: Annotated[tuple[Level, ...], Field(min_length=1, max_length=4)] = (0,)
    """resize: 8-bit levels of what is padded; one for all channels or one for each."""
    scale: FiniteFloat = 1 / 255
    """resize: what 8-bit levels are multiplied by first; 1 if the input is of whole numbers."""
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
            raise ModelLoadError(
                f"the description of the model's preprocessing is not valid: {problems_of(error)}"
            ) from error

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one picture's input, without the batch."""
        sizes = {"C": self.channels, "H": self.height, "W": self.width}
        return tuple(sizes[axis] for axis in self.layout[1:])

    @property
    def resized_size(self) -> tuple[int, int]:
        """Height and width that a picture is resized to, into or over; timm's floor(size / crop_pct)."""
        if isinstance(self.resize_size, int):
            return self.resize_size, self.resize_size
        if self.resize_size is not None:
            return self.resize_size
        part = self.crop_pct or 1
        return math.floor(self.height / part), math.floor(self.width / part)

    @property
    def description(self) -> str:
        """What is done, in one sentence for people."""
        if self.kind == "none":
            return _NONE
        if self.kind == "ink":
            return _INK.format(**self.model_dump())
        colors = {1: "grey", 3: self.color, 4: f"{self.color} and alpha"}[self.channels]
        return f"The picture is {self._geometry()}; {colors}, {self._values()}."

    @model_validator(mode="after")
    def _check(self) -> Self:
        if 0 in self.std:
            raise ValueError("std must not be 0")
        if self.resize_size is not None and self.crop_pct is not None:
            raise ValueError("resize_size and crop_pct say the same; keep one")
        ink_keys = self.model_fields_set & {"box", "background", "ink"}
        if ink_keys and "kind" not in self.model_fields_set:
            raise ValueError(f'{min(ink_keys)} is for kind = "ink"; write the kind')
        return self

    def _geometry(self) -> str:
        height, width = self.resized_size
        size = f"{height}x{width}"
        square = height == width
        how = {
            "stretch": f"resized to {size}, its aspect not kept",
            "shorter-side": f"resized until its shorter side is {height}"
            if square
            else f"resized until it covers {size}",
            "pad": f"resized until it fits into {size}, its aspect kept",
        }[self.resize]
        how += f" ({self.interpolation})"
        if self.resize == "pad":
            return f"{how}, and padded to {self.height}x{self.width}"
        cropped = self.resize == "shorter-side" or (height, width) != (self.height, self.width)
        return f"{how}, and cropped to {self.height}x{self.width} around its center" if cropped else how

    def _values(self) -> str:
        if (self.scale, set(self.mean), set(self.std)) == (1, {0}, {1}):
            return "levels of 0 to 255 as they are"
        mean, std = (
            f"{values[0]:g}" if len(values) == 1 else f"({', '.join(f'{value:g}' for value in values)})"
            for values in (self.mean, self.std)
        )
        return f"values times {self.scale:g}, minus {mean}, over {std}"


def problems_of(error: ValidationError) -> str:
    """List what is wrong, field by field."""
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, problem["loc"])), problem["msg"]]))
        for problem in error.errors()
    )
