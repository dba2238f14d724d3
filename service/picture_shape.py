"""Whether an input can be a picture, and of which size."""

from __future__ import annotations

from dataclasses import dataclass

from service.tensors import TensorSpec

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class PictureShape:
    """The form of an input [N, C, H, W] or [N, H, W, C]; a size that is free is None."""

    channels: int
    height: int | None
    width: int | None
    layout: str
    """NCHW or NHWC."""

    def __str__(self) -> str:
        height, width = ("any" if size is None else str(size) for size in (self.height, self.width))
        return f"{self.channels} channels of {height}x{width}, {self.layout}"


def picture_shape(spec: TensorSpec) -> PictureShape | None:
    """Tell which form of picture an input takes; None if it can't be one."""
    shape = spec.shape
    if shape is None or len(shape) != 4 or spec.dtype is None or spec.dtype.kind not in "fu":
        return None
    _, first, second, last = shape
    if first in _CHANNELS:
        return PictureShape(first, second, last, "NCHW")
    if last in _CHANNELS:
        return PictureShape(last, first, second, "NHWC")
    return None
