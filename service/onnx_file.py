"""Reading of ONNX files: bytes to a checked protobuf message, and what shape inference can tell about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import onnx
import structlog
from google.protobuf.message import DecodeError
from structlog.typing import FilteringBoundLogger

from service.errors import ModelLoadError
from service.file_kinds import other_kind
from service.tensors import Array, array_of, element_bytes
from service.told_types import told_types

log: FilteringBoundLogger = structlog.get_logger()

# Shape inference reads the values of small tensors (shapes, axes, pads); of larger ones only the sizes.
_LARGEST_SHAPE_DATA = 1024
_TENSOR_DATA = (
    "raw_data",
    "float_data",
    "double_data",
    "int32_data",
    "int64_data",
    "uint64_data",
    "string_data",
)


def read_skeleton(data: bytes) -> onnx.ModelProto:
    """Parse a model file, leaving out the data (not the sizes) of every large initializer.

    Raises:
        ModelLoadError: It is not a complete ONNX model, or weights are in other files still.
    """
    model = parsed(data)
    for tensor in tensors_of(model):
        # ONNX Runtime would open a file of that name, wherever it is.
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelLoadError(f'the weight "{tensor.name}" is in another file, which was not read with it')
    for tensor in model.graph.initializer:
        if is_described_only(tensor):
            for field in _TENSOR_DATA:
                tensor.ClearField(field)
    # A message keeps the memory of what was cleared, so this is a new one.
    return onnx.load_model_from_string(model.SerializeToString())


def parsed(data: bytes) -> onnx.ModelProto:
    """Parse a model file.

    Raises:
        ModelLoadError: It is empty, not ONNX, or cut short.
    """
    if not data:
        raise ModelLoadError("the file is empty; expected an ONNX model")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        kind = other_kind(data)
        why = f": it is {kind}" if kind else ", or only a part of one"
        raise ModelLoadError(f"the file is not an ONNX model{why}") from None
    if not model.graph.output:
        raise ModelLoadError("the file holds no ONNX graph")
    return model


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Find all tensors that a model's file holds: weights and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _attribute_tensors(function.attribute_proto)
        yield from _node_tensors(function.node)


def is_described_only(tensor: onnx.TensorProto) -> bool:
    """Tell whether `read_skeleton` leaves out this tensor's data: it is too large to describe a shape."""
    return element_count(tensor) > _LARGEST_SHAPE_DATA


def read_constants(data: bytes, names: Collection[str]) -> dict[str, Array]:
    """Read the values of initializers and Constant nodes by name, from a file that has been read before."""
    graph = onnx.load_model_from_string(data).graph
    found = {tensor.name: array_of(tensor) for tensor in graph.initializer if tensor.name in names}
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in names:
            found[node.output[0]] = array_of(node.attribute[0].t)
    return found


def constant_sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Tell how many bytes the values of initializers and Constant nodes take, as far as they hold tensors."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return {
        name: element_count(tensor) * element_bytes(tensor.data_type) for name, tensor in constants.items()
    }


def element_count(tensor: onnx.TensorProto) -> int:
    """Count the elements of a tensor."""
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def infer_types(
    model: onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, onnx.TypeProto]:
    """Tell the types of the main graph's tensors, as far as the file or ONNX's shape inference can.

    With `input_shapes` the named inputs have these sizes, and shapes that depend on them come out as numbers.
    """
    # Inference takes 7 MB for the definitions of all operators, and finds no more than a complete file tells.
    if (told := told_types(model.graph, input_shapes or {})) is not None:
        return told
    if input_shapes:
        model = _with_input_shapes(model, input_shapes)
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        # Only ONNX Runtime decides whether a model is valid; without inference the file's own types remain.
        log.warning("shape inference failed", reason=str(error))
        graph = model.graph
    return {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}


def _with_input_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    return fixed


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for subgraph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(subgraph)
