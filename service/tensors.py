"""Tensor types: what ONNX calls them, and what numpy can hold of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

Shape = tuple[int | None, ...]
Array = np.ndarray[Any, np.dtype[Any]]

_ELEMENT_TYPES = frozenset(onnx.helper.get_all_tensor_dtypes())


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of a tensor as it is handed over.

    Attributes:
        name: Its name in the graph.
        dtype: Type of the elements; object for strings; float32 for a computed tensor of a type that numpy
            lacks (bfloat16, float8, int4), which is widened on its way out; None where inference can't tell.
        shape: Sizes of the axes, None for any size; None as a whole if the rank isn't known.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: Shape | None


def spec_of(name: str, value: onnx.TypeProto | None) -> TensorSpec:
    """Describe a tensor of this type; None: nothing is known of it."""
    if value is None:
        return TensorSpec(name, None, None)
    element = value.tensor_type.elem_type
    dtype = np.dtype(np.float32) if needs_widening(value) else _numpy_type(element)
    return TensorSpec(name, dtype, shape_of(value))


def shape_of(value: onnx.TypeProto) -> Shape | None:
    """Tell the shape of a tensor type; None where not even the rank is known."""
    if not value.tensor_type.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in value.tensor_type.shape.dim)


def is_tensor(value: onnx.TypeProto | None) -> bool:
    """Tell whether this is a dense tensor, or may be one: nothing is known of it."""
    return value is None or value.WhichOneof("value") in ("tensor_type", None)


def needs_widening(value: onnx.TypeProto | None) -> bool:
    """Tell whether these are tensors whose elements numpy has no type for."""
    return value is not None and _is_foreign(value.tensor_type.elem_type)


def type_name(value: onnx.TypeProto) -> str:
    """Name the kind of value as ONNX does, such as bfloat16 or sequence."""
    kind = (value.WhichOneof("value") or "unknown").removesuffix("_type")
    return kind if kind != "tensor" else TensorProto.DataType.Name(value.tensor_type.elem_type).lower()


def array_of(tensor: TensorProto) -> Array:
    """Return a constant's value, widened to float32 if numpy lacks its type."""
    array = numpy_helper.to_array(tensor)
    return array.astype(np.float32) if _is_foreign(tensor.data_type) else array


def _numpy_type(element: int) -> np.dtype[Any] | None:
    return onnx.helper.tensor_dtype_to_np_dtype(element) if element in _ELEMENT_TYPES else None


def _is_foreign(element: int) -> bool:
    # Types that onnx maps to ml_dtypes are not numpy's own, and ONNX Runtime hands none of them to Python.
    dtype = _numpy_type(element)
    return dtype is not None and dtype.isbuiltin != 1
