"""Names of classes that a graph's operators carry, as scikit-learn's converters write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from service.onnx_file import is_described_only

_ATTRIBUTES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_LOOKUPS = ("ArrayFeatureExtractor", "Gather")
_NAMING = (TensorProto.STRING, TensorProto.INT64, TensorProto.INT32)


def class_labels(model: onnx.ModelProto) -> Iterator[tuple[str, ...]]:
    """Yield the names that classifiers have as an attribute, and the tables that an ArgMax chooses from."""
    tables = {tensor.name: tensor for tensor in model.graph.initializer if _may_name(tensor)}
    chosen = {node.output[0] for node in model.graph.node if node.op_type == "ArgMax"}
    for node in model.graph.node:
        if node.domain == "ai.onnx.ml":
            yield from _of_attributes(node)
        if node.op_type in _LOOKUPS and node.input[0] in tables and node.input[1] in chosen:
            yield _texts(numpy_helper.to_array(tables[node.input[0]]).tolist())


def _may_name(tensor: TensorProto) -> bool:
    is_table = len(tensor.dims) == 1 and tensor.data_type in _NAMING
    return is_table and not tensor.external_data and not is_described_only(tensor)


def _of_attributes(node: NodeProto) -> Iterator[tuple[str, ...]]:
    for attribute in node.attribute:
        if attribute.name in _ATTRIBUTES and (values := [*attribute.strings, *attribute.ints]):
            yield _texts(values)


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values)
