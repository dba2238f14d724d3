"""Receptive fields: which pixels of the image an element of a feature map depends on.

After Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, Distill 2019,
https://distill.pub/2019/computing-receptive-fields/
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from service.tensors import Shape


@dataclass(frozen=True)
class ReceptiveField:
    """Window of input pixels that an element sees, one entry per spatial axis of the image.

    Element i sees the pixels start + i*jump to start + i*jump + size - 1; those outside the image are
    padding. A jump of 0 means that all elements see the same window.
    """

    size: tuple[int, ...]
    jump: tuple[int, ...]
    start: tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """A receptive field on its way through the graph.

    Attributes:
        box: The window.
        axes: Axis of the tensor, counted from the end, along which each window moves; 0 where it doesn't.
        scattered: The elements see different parts of the box, in no order that a box per element could tell;
            so it is after a flatten.
    """

    box: ReceptiveField
    axes: tuple[int, ...]
    scattered: bool = False

    @property
    def told(self) -> ReceptiveField | None:
        """The exact receptive field of every element, or None where there is no such window."""
        return None if self.scattered else self.box

    @property
    def moving(self) -> tuple[int, ...]:
        """Axis of the tensor along which each window moves; 0 where it doesn't."""
        return tuple(axis if jump else 0 for axis, jump in zip(self.axes, self.box.jump, strict=True))


def of_image(shape: Shape) -> Field | None:
    """Start at the image itself, [N, C, ...] or [N, ..., C] with at most 4 channels; None if neither."""
    spatial = len(shape) - 2
    if spatial < 1:
        return None
    channels_last = shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    axes = range(-spatial - 1, -1) if channels_last else range(-spatial, 0)
    box = ReceptiveField((1,) * spatial, (1,) * spatial, (0,) * spatial)
    return Field(box, tuple(axes))


def slide(
    field: Field, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int]
) -> Field:
    """Look through a sliding window; `pads` are the beginnings, whatever follows them is ignored."""
    box, axes = field.box, range(len(kernel))
    return replace(
        field,
        box=ReceptiveField(
            size=tuple(box.size[a] + (kernel[a] - 1) * dilations[a] * box.jump[a] for a in axes),
            jump=tuple(box.jump[a] * strides[a] for a in axes),
            start=tuple(box.start[a] - pads[a] * box.jump[a] for a in axes),
        ),
    )


def gather(field: Field, shape: Shape | None, axes: Collection[int]) -> Field | None:
    """Make every element see what all elements along these axes of the tensor see together."""
    size, jump, kept = list(field.box.size), list(field.box.jump), list(field.axes)
    for i, axis in enumerate(field.axes):
        if axis in axes and jump[i]:
            extent = shape[axis] if shape else None
            if extent is None:
                return None
            size[i] += (extent - 1) * jump[i]
            jump[i] = kept[i] = 0
    return replace(field, box=ReceptiveField(tuple(size), tuple(jump), field.box.start), axes=tuple(kept))


def broadcast(field: Field, shape: Shape | None, output_shape: Shape | None) -> Field:
    """Stop the windows along axes of size 1 that are repeated to match another operand."""
    if shape is None or output_shape is None:
        return field
    repeated = {axis for axis in field.moving if axis and shape[axis] == 1 != output_shape[axis]}
    return gather(field, shape, repeated) or field


def merge(one: Field, two: Field, shape: Shape | None) -> Field | None:
    """See what both see, in a tensor of this shape; None if no window tells it."""
    scattered = one.scattered or two.scattered
    if one.moving == two.moving and one.box.jump == two.box.jump:
        return replace(one, box=_union(one.box, two.box), scattered=scattered)
    # Windows that move differently have no common step, unless one stands still and holds all of the other.
    for wide, other in ((one, two), (two, one)):
        whole = gather(other, shape, other.axes)
        if whole and not any(wide.box.jump) and _union(wide.box, whole.box) == wide.box:
            return replace(wide, scattered=scattered)
    return None


def _union(one: ReceptiveField, two: ReceptiveField) -> ReceptiveField:
    start = tuple(map(min, one.start, two.start))
    ends = (max(a + s, b + t) for a, s, b, t in zip(one.start, one.size, two.start, two.size, strict=True))
    return ReceptiveField(tuple(e - s for e, s in zip(ends, start, strict=True)), one.jump, start)
