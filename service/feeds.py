"""Arrays for a model's inputs: checks of those that came, and blank ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np

from service.errors import InvalidRequestError
from service.tensors import Array, TensorSpec, value_range


def check_feed(
    array: Array, spec: TensorSpec, foreign: int | None, *, finite: bool, any_number: bool = False
) -> None:
    """Check an array against the input that it is for.

    Args:
        array: What came.
        spec: The input.
        foreign: Its ONNX element type, if numpy has none for it.
        finite: Whether NaN and infinities are refused.
        any_number: Whether axis 0 may have any size, whatever the input says.

    Raises:
        InvalidRequestError: Type, rank, a size or a value is not what the input takes.
    """
    _check_type(array, spec)
    _check_shape(array, spec, any_number=any_number)
    if foreign is not None:
        _check_range(array, spec, foreign)
    if finite:
        check_finite(array, spec.name)


def check_finite(array: Array, name: str) -> None:
    """Check that an array holds neither NaN nor infinities.

    Raises:
        InvalidRequestError: It does.
    """
    if array.dtype.kind in "fc" and not is_finite(array):
        raise InvalidRequestError(f'the input "{name}" has NaN or infinite values; expected finite numbers')


def blank(spec: TensorSpec, free: int = 1) -> Array:
    """Make an array of zeros or empty texts, with `free` for every size that is free."""
    shape = [free if size is None else size for size in spec.shape or ()]
    return np.full(shape, "" if spec.dtype == np.dtype(object) else 0, dtype=spec.dtype)


def filled_up(array: Array, size: int) -> Array:
    """Repeat the last of an array's items, of which there is at least one, so that there are `size`."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def listed(names: Iterable[str], most: int = 20) -> str:
    """List names for people: quoted, and the first of them only where they are many."""
    quoted = [json.dumps(name, ensure_ascii=False) for name in names]
    return (
        ", ".join(quoted[:most]) + (f" and {len(quoted) - most} more" if len(quoted) > most else "") or "none"
    )


def _check_type(array: Array, spec: TensorSpec) -> None:
    is_text = spec.dtype == np.dtype(object) and array.dtype.kind in "OSU"
    if array.dtype != spec.dtype and not is_text:
        raise InvalidRequestError(f'the input "{spec.name}" is {array.dtype}; expected {spec.dtype}')


def _check_shape(array: Array, spec: TensorSpec, *, any_number: bool) -> None:
    if spec.shape is None:
        return
    shape = (None, *spec.shape[1:]) if any_number else spec.shape
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise InvalidRequestError(
            f'the input "{spec.name}" has shape {list(array.shape)}; expected [{expected}]'
        )


def _check_range(array: Array, spec: TensorSpec, element: int) -> None:
    bounds = value_range(element)
    if bounds and array.size and (array.min() < bounds[0] or array.max() > bounds[1]):
        raise InvalidRequestError(
            f'the input "{spec.name}" has values from {array.min()} to {array.max()};'
            f" expected {bounds[0]} to {bounds[1]}"
        )


def is_finite(array: Array) -> bool:
    """Tell whether no element is NaN or infinite.

    The sum of squares tells it at a tenth of the cost, unless it overflows by itself.
    """
    if array.dtype == np.float32 and array.flags.c_contiguous and math.isfinite(np.vdot(array, array)):
        return True
    return bool(np.isfinite(array).all())
