"""Inputs besides the picture that are the same for every picture, such as its size, from config.toml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from service.errors import ModelLoadError
from service.feeds import listed
from service.tensors import Array, TensorSpec


def extra_inputs(inputs: Sequence[TensorSpec], given: Mapping[str, object]) -> dict[str, Array]:
    """Make arrays of the values that config.toml gives: of one item where the first axis is a free batch.

    Raises:
        ModelLoadError: there is no such input, or the values don't fit into it.
    """
    known = {spec.name: spec for spec in inputs}
    for name in given:
        if name not in known:
            raise ModelLoadError(
                f'config.toml: extra_inputs: no input "{name}"; the model has {listed(known)}'
            )
    return {name: _array(known[name], value) for name, value in given.items()}


def repeated(values: Mapping[str, Array], inputs: Sequence[TensorSpec], items: int) -> dict[str, Array]:
    """Give each of so many items the values; inputs of a fixed shape get them once."""
    free = {spec.name for spec in inputs if spec.shape and spec.shape[0] is None}
    return {name: _rows(value, items) if name in free else value for name, value in values.items()}


def _rows(value: Array, items: int) -> Array:
    return np.ascontiguousarray(np.broadcast_to(value, (items, *value.shape[1:])))


def _array(spec: TensorSpec, value: object) -> Array:
    shape = spec.shape or ()
    sizes = [1 if axis == 0 and size is None else size for axis, size in enumerate(shape)]
    wanted = [-1 if size is None else size for size in sizes]
    try:
        return np.ascontiguousarray(np.broadcast_to(np.array(value, dtype=spec.dtype), wanted))
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelLoadError(
            f'config.toml: extra_inputs: the value of "{spec.name}" is no {spec.dtype} {wanted}: {error}'
        ) from error
