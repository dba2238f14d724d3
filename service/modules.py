"""What each module of the exported code hands to the rest of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import commonpath

import onnx

from service.operators import CONVOLUTIONS
from service.scopes import Scopes

_WEIGHT = ".weight"
# torch's older exporter keeps the names of parameters; those that it computes anew it calls onnx::Conv_123.
_COMPUTED = "onnx::"


@dataclass(frozen=True)
class Modules:
    """The modules of a graph.

    Attributes:
        outputs: Tensors that each module computes for others, in graph order, by the module's path. Several,
            if the module has several outputs or is called several times. Nothing else may use a tensor
            between two calls in a row, so then it is the output of the last.
        merged: Modules without a tensor of their own, as the exporter merged them into the one that follows:
            a convolution and its BatchNormalization become one operator.
        altered: Convolutions that the exporter gave other weights and yet named after the module, with the
            tensor that they compute. So it does where it merges a BatchNormalization into them.
    """

    outputs: Mapping[str, tuple[str, ...]]
    merged: Mapping[str, str]
    altered: Mapping[str, str]


def find_modules(graph: onnx.GraphProto, scopes: Sequence[Scopes], layers: Collection[str]) -> Modules:
    """Find the modules and their outputs.

    Args:
        graph: The graph.
        scopes: The modules around each of its nodes.
        layers: Tensors that may be a module's output.
    """
    users = _users(graph, scopes)
    used: defaultdict[str, list[str]] = defaultdict(list)
    unused: defaultdict[str, list[str]] = defaultdict(list)
    for node, around in zip(graph.node, scopes, strict=True):
        for name in node.output:
            if name not in layers:
                continue
            inside = set[str]().union(around).intersection(*users[name]) if name in users else set[str]()
            for path in around:
                if path not in inside:
                    (used if name in users else unused)[path].append(name)
    outputs = {path: tuple(names) for path, names in {**unused, **used}.items()}
    outputs = _shortened(outputs) | outputs
    return Modules(outputs, dict(_merged(graph, scopes, outputs)), dict(_altered(graph, scopes)))


def _users(graph: onnx.GraphProto, scopes: Sequence[Scopes]) -> Mapping[str, list[Scopes]]:
    """List the modules around each user of a tensor; the caller of the graph uses its outputs."""
    users: defaultdict[str, list[Scopes]] = defaultdict(list)
    for value in graph.output:
        users[value.name].append(())
    for node, around in zip(graph.node, scopes, strict=True):
        for name in _taken(node):
            users[name].append(around)
    return users


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node uses, tensors of the outer graph that only its subgraphs use among them."""
    yield from node.input
    for attribute in node.attribute:
        for subgraph in (attribute.g, *attribute.graphs):
            for inner in subgraph.node:
                yield from _taken(inner)
            yield from (value.name for value in subgraph.output)


def _shortened(outputs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Leave out the scopes that are around all others, as Keras names its layers: model/conv1 is conv1."""
    paths = [path for path in outputs if "/" in path]
    around = f"{commonpath(paths)}/" if paths else "/"
    return {path.removeprefix(around): outputs[path] for path in paths if path.startswith(around)}


def _merged(
    graph: onnx.GraphProto, scopes: Sequence[Scopes], outputs: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Find modules that only a weight's name tells of, which is used in another module of the same parent."""
    weights = {tensor.name for tensor in graph.initializer if tensor.name.endswith(_WEIGHT)}
    for node, around in zip(graph.node, scopes, strict=True):
        for name in weights.intersection(node.input) if around else ():
            path = name.removesuffix(_WEIGHT)
            if path not in outputs and path.rpartition(".")[0] == around[-1].rpartition(".")[0]:
                yield path, around[-1]


def _altered(graph: onnx.GraphProto, scopes: Sequence[Scopes]) -> Iterator[tuple[str, str]]:
    for node, around in zip(graph.node, scopes, strict=True):
        kernel = node.input[1:2] if node.op_type in CONVOLUTIONS else ()
        if around and any(name.startswith(_COMPUTED) for name in kernel):
            yield around[-1], node.output[0]
