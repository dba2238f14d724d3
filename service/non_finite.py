"""Where NaN or infinity begins in a model: the layer that makes them of finite numbers."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from threading import Lock

import numpy as np

from service.errors import ServiceError
from service.feeds import is_finite
from service.graph import Graph
from service.model import Model
from service.settings import MiB
from service.tensors import Array

_MOST_BYTES = 512 * MiB
"""Of all layers of one item: no run gives more at once to be looked through."""
_REST_S = 10.0
"""Between two searches in a model: callers who send such data again and again don't keep it busy."""


class OriginSearch:
    """Finds the origin in runs of one model, one at a time and not too often. Thread-safe."""

    def __init__(self) -> None:
        self._searching = Lock()
        self._rests_until_s = 0.0
        self._last = ""

    def explain(self, model: Model, feeds: Mapping[str, Array], output: str) -> str:
        """Tell in words where what isn't finite in an output begins, for one item.

        In between two searches the last one's finding is told as such.
        """
        if not self._searching.acquire(blocking=False):
            return "where it begins is being looked for; ask again to be told"
        try:
            if time.monotonic() < self._rests_until_s:
                return f"{self._last}, as found for an earlier item"
            self._last = _origin(model, feeds, output)
            self._rests_until_s = time.monotonic() + _REST_S
            return self._last
        finally:
            self._searching.release()


def _origin(model: Model, feeds: Mapping[str, Array], output: str) -> str:
    """Run the item, which is finite, with all layers, and follow what isn't from the output to its origin."""
    layers = [
        name
        for name, layer in model.graph.layers.items()
        if layer.spec.dtype is None or _holds_floats(layer.spec.dtype)
    ]
    shapes = {name: feed.shape for name, feed in feeds.items()}
    if model.estimate_bytes(layers, shapes) > _MOST_BYTES:
        return "the layers are too large to look for where it begins"
    try:
        values = model.run(feeds, list(dict.fromkeys([output, *layers])))
    except ServiceError:
        return "the run that was to tell where it begins failed"
    tainted = {name for name, array in values.items() if not _is_finite(array)}
    if output not in tainted or output not in model.graph.layers:
        return "a run of this item alone, with all layers, doesn't show it"
    layer = model.graph.layers[first_tainted(model.graph, tainted, output)]
    return f'it begins in layer "{layer.name}" ({layer.op_type})'


def first_tainted(graph: Graph, tainted: Collection[str], output: str) -> str:
    """Name the first layer, in graph order, that is tainted while none of its inputs is.

    It leads to the output through tainted layers only. An attention's mask of minus infinities doesn't: the
    values behind it are finite.
    """
    found, seen, left = [], set(), [output]
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        before = [
            source for source in graph.layers[name].inputs if source in tainted and source in graph.layers
        ]
        left += before
        if not before:
            found.append(name)
    order = {name: place for place, name in enumerate(graph.layers)}
    return min(found, key=order.__getitem__, default=output)


def _holds_floats(dtype: np.dtype[np.generic]) -> bool:
    return dtype.kind in "fc"


def _is_finite(array: Array) -> bool:
    return array.dtype.kind not in "fc" or is_finite(array)
