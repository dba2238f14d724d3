"""Which outputs follow the batch, so that requests may share a run: what shapes promise and a trial shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import starmap
from random import Random

import numpy as np

from service.device import RUNTIME_ERRORS
from service.graph import Array, Graph, TensorSpec

Run = Callable[[Mapping[str, Array], Sequence[str]], Sequence[Array]]

# What is tried for axes of any size, until the model takes it.
_SIZES = (3, 32, 224)
_TOLERANCE = 1e-2


def batched(graph: Graph, run: Run) -> frozenset[str]:
    """Name the outputs and layers that have an item of the batch in each row.

    A free first axis promises that, but may be another one: time, say, in a recurrent network. So two items
    are run together and alone, and only outputs whose rows agree are taken at their word. Layers are, if any
    declared output is.

    Args:
        graph: The model's graph.
        run: Runs the model on feeds and returns the named outputs.
    """
    if not graph.inputs or not all(map(_has_free_axis_0, graph.inputs)):
        return frozenset()
    declared = [spec.name for spec in graph.outputs if _has_free_axis_0(spec)]
    confirmed = _confirmed(graph.inputs, declared, run) if declared else frozenset()
    layers = (layer.spec for layer in graph.layers.values()) if confirmed else ()
    others = {spec.name for spec in layers if _has_free_axis_0(spec)}
    return confirmed | others.difference(declared)


def _has_free_axis_0(spec: TensorSpec) -> bool:
    return spec.shape is not None and spec.shape[:1] == (None,)


def _confirmed(inputs: Sequence[TensorSpec], names: Sequence[str], run: Run) -> frozenset[str]:
    for feeds in _trials(inputs):
        try:
            together = run(feeds, names)
            alone = [run({name: feed[i : i + 1] for name, feed in feeds.items()}, names) for i in range(2)]
        except RUNTIME_ERRORS:  # these sizes or values are not what it takes
            continue
        rows = zip(together, *alone, strict=True)
        return frozenset(name for name, agree in zip(names, starmap(_agree, rows), strict=True) if agree)
    return frozenset()


def _trials(inputs: Sequence[TensorSpec]) -> Iterator[dict[str, Array]]:
    """Make feeds of two items that differ."""
    any_free = any(None in (spec.shape or ())[1:] for spec in inputs)
    for size in _SIZES if any_free else _SIZES[:1]:
        generator = Random(0)  # noqa: S311 - no secret is made of it
        yield {spec.name: _two_items(spec, size, generator) for spec in inputs}


def _two_items(spec: TensorSpec, size: int, generator: Random) -> Array:
    shape = [size if wanted is None else wanted for wanted in (spec.shape or ())[1:]]
    if spec.dtype is not None and spec.dtype.kind in "fc":
        return _fractions([2, *shape], generator).astype(spec.dtype)
    first = 1 + (_fractions(shape, generator) < 0.5)  # 1 or 2, which small vocabularies have too
    both = np.stack([first, 3 - first])
    return (both == 1 if spec.dtype == np.dtype(bool) else both.astype(str)).astype(spec.dtype)


def _fractions(shape: Sequence[int], generator: Random) -> Array:
    """Draw from [0, 1). numpy's generators would do, but take 2 MB to load."""
    drawn = np.frombuffer(generator.randbytes(4 * math.prod(shape)), np.uint32)
    return (drawn / 2**32).reshape(shape)


def _agree(together: Array, first: Array, second: Array) -> bool:
    """Tell whether two rows are those that the items have alone, up to what kernels differ in rounding."""
    if together.ndim == 0 or together.shape != (2, *first.shape[1:]) or first.shape != second.shape:
        return False
    alone = np.concatenate([first, second])
    if alone.shape != together.shape:
        return False
    if alone.dtype.kind not in "fc":
        return bool((alone == together).all())
    scale = np.abs(alone[np.isfinite(alone)]).max(initial=0)
    return bool(np.allclose(together, alone, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True))
