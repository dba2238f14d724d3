"""The types of a graph's tensors as the file itself tells them, where it leaves nothing to infer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

Sizes = Mapping[str, int | None]
"""What each symbol of the inputs' shapes stands for, as far as that is known."""


def told_types(
    graph: onnx.GraphProto, input_shapes: Mapping[str, Sequence[int]]
) -> dict[str, onnx.TypeProto] | None:
    """Return the types of the main graph's tensors, with the symbols of their shapes replaced by sizes.

    None unless the file tells the shapes of all that its nodes compute, in numbers and in symbols that its
    inputs have too: equal symbols stand for equal sizes.
    https://github.com/onnx/onnx/blob/main/docs/IR.md#static-tensor-shapes

    Args:
        graph: The graph.
        input_shapes: Sizes of the inputs, where they are known.
    """
    types = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    computed = {name for node in graph.node for name in node.output if name}
    sizes = _sizes(graph.input, input_shapes)
    if sizes is None or not all(name in types and _is_told(types[name], sizes) for name in computed):
        return None
    return {name: _with_sizes(value, sizes) for name, value in types.items()} if input_shapes else types


def _sizes(
    inputs: Sequence[onnx.ValueInfoProto], input_shapes: Mapping[str, Sequence[int]]
) -> dict[str, int | None] | None:
    """Tell what the symbols stand for; None if one would stand for two sizes."""
    sizes: dict[str, int | None] = {}
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        known = input_shapes.get(value.name, [None] * len(dims))
        for dim, size in zip(dims, known, strict=False):
            if dim.dim_param and sizes.setdefault(dim.dim_param, size) != size:
                return None
    return sizes


def _is_told(value: onnx.TypeProto, sizes: Sizes) -> bool:
    if not value.tensor_type.elem_type or not value.tensor_type.HasField("shape"):
        return False
    return all(dim.HasField("dim_value") or dim.dim_param in sizes for dim in value.tensor_type.shape.dim)


def _with_sizes(value: onnx.TypeProto, sizes: Sizes) -> onnx.TypeProto:
    sized = onnx.TypeProto()
    sized.CopyFrom(value)
    for dim in sized.tensor_type.shape.dim:
        if (size := sizes.get(dim.dim_param)) is not None:
            dim.dim_value = size
    return sized
