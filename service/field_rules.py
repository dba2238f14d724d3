"""What each ONNX operator does to receptive fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from service.operators import CONVOLUTIONS, ELEMENTWISE, POOLINGS, Operator, Window
from service.receptive_field import Field, broadcast, gather, merge, slide
from service.tensors import Shape


@dataclass(frozen=True)
class Step:
    """One operator and what it is applied to.

    Attributes:
        operator: The node.
        window: Its window, empty unless it is a convolution or pooling.
        fields: By position, the inputs that depend on the image; None where the field can't be told.
        shapes: Shapes of all inputs.
        integers: Values of the inputs that are constant lists of integers; None for the others.
        output_shape: Shape of its output.
        batch: Size of the image's axis 0.
    """

    operator: Operator
    window: Window
    fields: Mapping[int, Field | None]
    shapes: Sequence[Shape | None]
    integers: Sequence[tuple[int, ...] | None]
    output_shape: Shape | None
    batch: int | None


Rule = Callable[[Step], Field | None]


def propagate(step: Step) -> Field | None:
    """Tell the field of an operator's output; None where it can't be told."""
    fields = [field for field in step.fields.values() if field is not None]
    rule = _RULES.get(step.operator.op_type)
    if rule is None or len(fields) < len(step.fields):
        return None
    return rule(step)


def _pointwise(step: Step) -> Field | None:
    fields = [
        broadcast(field, step.shapes[at], step.output_shape) for at, field in step.fields.items() if field
    ]
    merged: Field | None = fields[0]
    for field in fields[1:]:
        merged = merged and merge(merged, field, step.output_shape)
    return merged


def _sliding(step: Step) -> Field | None:
    field, window = step.fields.get(0), step.window
    spatial = range(-len(window.kernel_shape), 0)
    if field is None or field.scattered or not window.pads or len(field.axes) != len(spatial):
        return None
    if any(moving not in (0, axis) for moving, axis in zip(field.moving, spatial, strict=True)):
        return None
    return slide(field, window.kernel_shape, window.strides, window.pads, window.dilations)


def _transposed(step: Step) -> Field | None:
    """Follow a transposed convolution: with a stride of 1 it is a convolution with other pads."""
    window = step.window
    if any(stride != 1 for stride in window.strides) or not window.pads:
        return None
    rank = len(window.kernel_shape)
    reach = [d * (k - 1) for d, k in zip(window.dilations, window.kernel_shape, strict=True)]
    pads = tuple(r - p for r, p in zip(reach, window.pads[:rank], strict=True))
    return _sliding(replace(step, window=replace(window, pads=pads * 2)))


def _contract(step: Step, axes: Collection[int]) -> Field | None:
    """Follow an operator whose every element depends on all elements along these axes of input 0."""
    field, shape = step.fields.get(0), step.shapes[0]
    if field is None or len(step.fields) > 1:
        return None
    gathered = gather(field, shape, axes)
    whole_item = shape is not None and len(shape) == 2 and shape[0] == step.batch and -1 in axes
    return replace(gathered, scattered=False) if gathered and whole_item else gathered


def _multiply(step: Step) -> Field | None:
    transposed = step.operator.attributes.get("transA", 0)
    return None if transposed else _contract(step, (-1,))


def _softmax(step: Step) -> Field | None:
    shape, newer = step.shapes[0], step.operator.opset >= 13
    axis = step.operator.attributes.get("axis", -1 if newer else 1)
    if shape is None:
        return None
    axis = axis if axis < 0 else axis - len(shape)
    # Before opset 13 all axes from this one on were flattened into one.
    return _contract(step, (axis,) if newer else range(axis, 0))


def _layer_norm(step: Step) -> Field | None:
    axis = step.operator.attributes.get("axis", -1)
    rank = len(step.shapes[0] or ())
    return _contract(step, range(axis if axis < 0 else axis - rank, 0))


def _global(step: Step) -> Field | None:
    return _contract(step, range(2 - len(step.shapes[0] or ()), 0))


def _reduce(step: Step) -> Field | None:
    shape, operator = step.shapes[0], step.operator
    if shape is None or (len(operator.node.input) > 1 and step.integers[1] is None):
        return None
    given = step.integers[1] if len(operator.node.input) > 1 else operator.integers("axes")
    axes = {a if a < 0 else a - len(shape) for a in given or range(-len(shape), 0)}
    field = _contract(step, axes)
    if field is None or operator.attributes.get("keepdims", 1):
        return field
    return replace(field, axes=tuple(a and a + sum(gone > a for gone in axes) for a in field.axes))


def _transpose(step: Step) -> Field | None:
    field, shape = step.fields.get(0), step.shapes[0]
    if field is None or shape is None:
        return None
    rank = len(shape)
    order = step.operator.integers("perm", range(rank)[::-1])
    return replace(field, axes=tuple(a and order.index(a + rank) - rank for a in field.axes))


def _reshape(step: Step) -> Field | None:
    field, shape, result = step.fields.get(0), step.shapes[0], step.output_shape
    if field is None or shape is None or len(step.fields) > 1:
        return None
    first = min(field.moving)
    kept = shape[first:] if first else ()
    if None not in kept and result is not None and (not first or result[first:] == kept):
        return field  # only axes in front of the spatial ones were touched
    gathered = gather(field, shape, field.axes)
    spread = any(shape[axis] != 1 for axis in field.moving if axis)
    return replace(gathered, scattered=field.scattered or spread) if gathered else None


def _pad(step: Step) -> Field | None:
    field, operator, shape = step.fields.get(0), step.operator, step.shapes[0]
    pads = operator.integers("pads") or (step.integers[1] if len(step.integers) > 1 else None)
    plain = operator.attributes.get("mode", b"constant") == b"constant" and len(operator.node.input) < 4
    if field is None or shape is None or pads is None or not plain:
        return None
    before = [pads[axis + len(shape)] if axis else 0 for axis in field.axes]
    ones = (1,) * len(field.axes)
    return slide(field, ones, ones, before, ones)


def _concat(step: Step) -> Field | None:
    shape, axis = step.shapes[0], step.operator.attributes.get("axis", 0)
    if shape is None:
        return None
    axis = axis if axis < 0 else axis - len(shape)
    moves = any(axis in field.axes for field in step.fields.values() if field)
    return None if moves else _pointwise(step)


def _rules(rule: Rule, *op_types: str) -> dict[str, Rule]:
    return dict.fromkeys(op_types, rule)


_RULES: Mapping[str, Rule] = {
    **_rules(_pointwise, *ELEMENTWISE),
    **_rules(_sliding, *CONVOLUTIONS, *POOLINGS),
    **_rules(_transposed, "ConvTranspose"),
    **_rules(_global, "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
    **_rules(_global, "InstanceNormalization", "GroupNormalization"),
    **_rules(_reduce, "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    **_rules(_reduce, "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
    **_rules(_multiply, "Gemm", "MatMul"),
    **_rules(_softmax, "Softmax", "LogSoftmax"),
    **_rules(_layer_norm, "LayerNormalization", "RMSNormalization"),
    **_rules(_reshape, "Flatten", "Reshape", "Squeeze", "Unsqueeze"),
    **_rules(_transpose, "Transpose"),
    **_rules(_pad, "Pad"),
    **_rules(_concat, "Concat", "Split"),
}
