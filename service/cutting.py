"""Cuts a model to what computes some of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableSequence
from typing import TypeVar

import onnx

from service.lineage import reads

Value = TypeVar("Value")


def cut_to(data: bytes, outputs: Collection[str]) -> bytes:
    """Return a model that has these outputs alone, and no node and no weight that none of them needs.

    Its inputs stay: what feeds the one feeds the other.

    Args:
        data: A model, its weights included.
        outputs: Names of outputs that it has.
    """
    model = onnx.load_model_from_string(data)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    needed = set(outputs)
    for at in reversed(range(len(graph.node))):  # what uses a tensor comes after what computes it
        if needed.isdisjoint(graph.node[at].output):
            del graph.node[at]
        else:
            needed.update(reads(graph.node[at]))
    _keep(graph.output, lambda value: value.name in outputs)
    _keep(graph.input, lambda value: value.name in needed or value.name not in constants)
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    _keep(graph.sparse_initializer, lambda tensor: tensor.values.name in needed)
    return model.SerializeToString()


def _keep(values: MutableSequence[Value], wanted: Callable[[Value], bool]) -> None:
    """Delete the others in place: weights aren't copied."""
    for at in reversed(range(len(values))):
        if not wanted(values[at]):
            del values[at]
