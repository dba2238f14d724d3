"""The models of the protocol's tests: one of each kind that a request can be wrong or right about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.service.conftest import add_model
from tests.service.onnx_models import model, node, value

ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def same(element: int) -> onnx.ModelProto:
    """x [n, 2] to y, the same."""
    return model(
        [node("Identity", "x", "y")], [value("x", ["n", 2], element)], [value("y", ["n", 2], element)]
    )


def sums() -> onnx.ModelProto:
    """Floats a and b [n, 2] to their sum [n, 2] and whether a is less [n, 2]."""
    inputs = [value("a", ["n", 2]), value("b", ["n", 2])]
    outputs = [value("sum", ["n", 2]), value("less", ["n", 2], TensorProto.BOOL)]
    return model([node("Add", "a b", "sum"), node("Less", "a b", "less")], inputs, outputs)


def product() -> onnx.ModelProto:
    """Matrices without a batch: a [2, 3] and b [3, any] to [2, any]."""
    return model(
        [node("MatMul", "a b", "ab"), node("Neg", "ab", "minus")],
        [value("a", [2, 3]), value("b", [3, "k"])],
        [value("minus", [2, "k"])],
    )


def scalar() -> onnx.ModelProto:
    """A scalar to its double."""
    return model([node("Add", "x x", "y")], [value("x", [])], [value("y", [])])


def totals() -> onnx.ModelProto:
    """x [n, 4] to the sum of each row [n]."""
    return model(
        [node("ReduceSum", "x axis", "total", keepdims=0)],
        [value("x", ["n", 4])],
        [value("total", ["n"])],
        {"axis": np.array([1])},
    )


def constant() -> onnx.ModelProto:
    """No input, and always the same two numbers."""
    seven = numpy_helper.from_array(np.array([7, 8], np.int64))
    return model([node("Constant", "", "y", value=seven)], [], [value("y", [2], TensorProto.INT64)])


def rounded() -> onnx.ModelProto:
    """Floats x [n, 2] to the same, rounded to bfloat16 on the way (`short`)."""
    nodes = [
        node("Cast", "x", "short", to=TensorProto.BFLOAT16),
        node("Cast", "short", "y", to=TensorProto.FLOAT),
    ]
    return model(nodes, [value("x", ["n", 2])], [value("y", ["n", 2])])


def ranked(element: int) -> onnx.ModelProto:
    """x [n, 4] to scores, the same: something to classify."""
    return model(
        [node("Identity", "x", "scores")],
        [value("x", ["n", 4], element)],
        [value("scores", ["n", 4], element)],
    )


def fill(folder: Path) -> Path:
    """Make a repository of all of these, and of one that can't be loaded."""
    for datatype, element in ELEMENTS.items():
        add_model(folder, f"same-{datatype}", same(element))
    for name, built in (("sums", sums()), ("product", product()), ("scalar", scalar())):
        add_model(folder, name, built)
    add_model(folder, "totals", totals())
    add_model(folder, "constant", constant())
    add_model(folder, "rounded", rounded())
    for datatype in ("FP32", "FP16", "BF16", "INT32", "UINT8"):
        add_model(folder, f"ranked-{datatype}", ranked(ELEMENTS[datatype]))
    (folder / "ranked-FP32" / "config.toml").write_text('labels = ["a", "b", "c", "d"]\n')
    add_model(folder, "sums", sums(), version="3")
    (folder / "sums" / "config.toml").write_text("[versions]\nall = true\n")
    add_model(folder, "broken", b"no model")
    return folder
