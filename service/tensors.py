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
# Of the types that numpy lacks, the integers: the type that stands for each, and what it may hold.
_NARROW_INTEGERS: dict[int, tuple[type[np.integer[Any]], tuple[int, int]]] = {
    TensorProto.INT4: (np.int8, (-8, 7)),
    TensorProto.INT2: (np.int8, (-2, 1)),
    TensorProto.UINT4: (np.uint8, (0, 15)),
    TensorProto.UINT2: (np.uint8, (0, 3)),
}
# Types with several elements to a byte, and how many bits each takes.
_PACKED: dict[int, int] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
}


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of a tensor as it is handed over.

    Attributes:
        name: Its name in the graph.
        dtype: Type of the elements; object for strings; None where inference can't tell. In place of a type
            that numpy lacks it is one that holds all its values: float32 for bfloat16 and float8, int8 for
            int4, uint8 for uint4.
        shape: Sizes of the axes, None for any size; None as a whole if the rank isn't known.
        bfloat16: Whether it is bfloat16 that float32 stands for.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: Shape | None
    bfloat16: bool = False


def spec_of(name: str, value: onnx.TypeProto | None) -> TensorSpec:
    """Describe a tensor of this type; None: nothing is known of it."""
    if value is None:
        return TensorSpec(name, None, None)
    element = value.tensor_type.elem_type
    return TensorSpec(name, _held_as(element), shape_of(value), element == TensorProto.BFLOAT16)


def shape_of(value: onnx.TypeProto) -> Shape | None:
    """Tell the shape of a tensor type; None where not even the rank is known."""
    if not value.tensor_type.HasField("shape"):
        return None
    dims = value.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims)


def is_tensor(value: onnx.TypeProto | None) -> bool:
    """Tell whether this is a dense tensor, or may be one: nothing is known of it."""
    return value is None or value.WhichOneof("value") in ("tensor_type", None)


def foreign_element(value: onnx.TypeProto) -> int | None:
    """Return the ONNX element type of these tensors if numpy has no type for it."""
    element = value.tensor_type.elem_type
    return element if _is_foreign(element) else None


def element_bytes(element: int) -> int:
    """Tell how many bytes an element of this ONNX type takes as it is handed over; 0 for texts."""
    dtype = _held_as(element)
    return dtype.itemsize if dtype is not None and not dtype.hasobject else 0


def wider_element(element: int) -> int:
    """Return the ONNX element type that stands for one that numpy lacks."""
    return onnx.helper.np_dtype_to_tensor_dtype(_wider_type(element))


def value_range(element: int) -> tuple[int, int] | None:
    """Tell the least and the greatest value of an integer type that numpy lacks; None for floats."""
    return _NARROW_INTEGERS[element][1] if element in _NARROW_INTEGERS else None


def narrowed(array: Array, element: int) -> Array:
    """Give elements a type that numpy lacks, as bytes that ONNX Runtime can take for it; floats are rounded.

    The shape stays. Where several elements share a byte the packed ones come first and the rest is unused.
    """
    narrow = array.astype(onnx.helper.tensor_dtype_to_np_dtype(element))
    if element not in _PACKED:
        return narrow
    packed = numpy_helper.from_array(narrow).raw_data
    buffer = np.zeros(array.shape, np.uint8)
    buffer.reshape(-1)[: len(packed)] = np.frombuffer(packed, np.uint8)
    return buffer


def type_name(value: onnx.TypeProto) -> str:
    """Name the kind of value as ONNX does, such as bfloat16 or sequence."""
    kind = (value.WhichOneof("value") or "unknown").removesuffix("_type")
    return kind if kind != "tensor" else TensorProto.DataType.Name(value.tensor_type.elem_type).lower()


def array_of(tensor: TensorProto) -> Array:
    """Return a constant's value, widened if numpy lacks its type."""
    array = numpy_helper.to_array(tensor)
    return array.astype(_wider_type(tensor.data_type)) if _is_foreign(tensor.data_type) else array


def byte_count(element: int, count: int) -> int | None:
    """Tell how many bytes this many elements take as raw data; None for texts and unknown types."""
    dtype = _numpy_type(element)
    if dtype is None or dtype.kind == "O":
        return None
    bits = _PACKED[element] if element in _PACKED else 8 * dtype.itemsize
    return (count * bits + 7) // 8


def _held_as(element: int) -> np.dtype[Any] | None:
    return _wider_type(element) if _is_foreign(element) else _numpy_type(element)


def _wider_type(element: int) -> np.dtype[Any]:
    return np.dtype(_NARROW_INTEGERS[element][0] if element in _NARROW_INTEGERS else np.float32)


def _numpy_type(element: int) -> np.dtype[Any] | None:
    return onnx.helper.tensor_dtype_to_np_dtype(element) if element in _ELEMENT_TYPES else None


def _is_foreign(element: int) -> bool:
    # Types that onnx maps to ml_dtypes are not numpy's own, and ONNX Runtime knows none of them in Python.
    dtype = _numpy_type(element)
    return dtype is not None and dtype.isbuiltin != 1
