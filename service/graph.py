"""The graph of a model: its inputs and outputs, the layers that can be asked for, and their weights.

Knows the ONNX file, not the runtime that executes it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import onnx
from onnx import TensorProto, helper

from service.errors import ModelLoadError
from service.layers import Layer, LayerWalk
from service.onnx_file import infer_types, read_constants, read_skeleton
from service.receptive_field import ReceptiveField
from service.tensors import (
    Array,
    Shape,
    TensorSpec,
    is_tensor,
    needs_widening,
    shape_of,
    spec_of,
    type_name,
)

__all__ = ["Array", "Graph", "Layer", "ReceptiveField", "Shape", "TensorSpec"]

# What reading a node raises if it lacks an input, or an attribute is not of its operator's type or length.
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class Graph:
    """A parsed model file.

    Attributes:
        inputs: What a run takes; constants that could be overridden are left out.
        outputs: The declared outputs that are tensors.
        layers: The tensors that the graph computes from its inputs, by name, in graph order. Declared outputs
            are among them; constants, what is inside of a control-flow operator, sequences and maps are not.
        metadata: The file's own key-value pairs.
        opset: Version of the ONNX operator set.
        producer: What wrote the file, such as "pytorch 2.13.0".
        parameters: Number of learned parameters. Learned are the constants that feed the weight inputs of
            operators which have such (Conv, Gemm, MatMul, the normalizations); and, behind the first of them,
            the floating-point constants of more than one element that Add, Mul, Concat or Expand take (a
            bias, a positional embedding). So constants that normalize the input don't count.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: Mapping[str, Layer]
    metadata: Mapping[str, str]
    opset: int
    producer: str
    parameters: int
    _data: bytes = field(repr=False)
    _skeleton: onnx.ModelProto = field(repr=False)
    _widened: frozenset[str] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Graph:
        """Read a model file.

        Raises:
            ModelLoadError: It is not a complete ONNX model, keeps weights in other files, or has an input
                that can't be fed.
        """
        model = read_skeleton(data)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        try:
            walk = LayerWalk(model, _modules(metadata))
        except _MALFORMED as error:
            raise ModelLoadError(f"a node of the graph is malformed: {error}") from error
        outputs = [value for value in model.graph.output if is_tensor(walk.types.get(value.name))]
        return cls(
            inputs=tuple(_feedable(value) for value in walk.inputs),
            outputs=tuple(spec_of(value.name, walk.types.get(value.name)) for value in outputs),
            layers=walk.layers,
            metadata=metadata,
            opset=max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0),
            producer=f"{model.producer_name} {model.producer_version}".strip(),
            parameters=sum(walk.learned.values()),
            _data=data,
            _skeleton=model,
            _widened=frozenset(name for name, value in walk.types.items() if needs_widening(value)),
        )

    @cached_property
    def fetchable(self) -> frozenset[str]:
        """Everything that a run can return: the declared outputs and the layers."""
        return frozenset(spec.name for spec in self.outputs) | frozenset(self.layers)

    @cached_property
    def plain_outputs(self) -> frozenset[str]:
        """The declared outputs that the file's own graph can hand over as they are."""
        return frozenset(spec.name for spec in self.outputs) - self._widened

    def weights(self, layer: str) -> list[tuple[str, Array]]:
        """Return a layer's learned parameters in the operator's order: for Conv kernel, then bias."""
        names = self.layers[layer].weights
        values = read_constants(self._data, names) if names else {}
        return [(name, values[name]) for name in names]

    def with_outputs(self, names: Collection[str]) -> bytes:
        """Serialize the model with these layers added to its outputs, under the names `fetch_name` tells."""
        declared = {value.name for value in self._skeleton.graph.output}
        fetched = [self.fetch_name(name) for name in names]
        addition = onnx.GraphProto(
            node=[
                helper.make_node("Cast", [name], [self.fetch_name(name)], to=TensorProto.FLOAT)
                for name in names
                if name in self._widened
            ],
            output=[onnx.ValueInfoProto(name=name) for name in fetched if name not in declared],
        )
        # Serialized messages that follow each other merge when parsed, repeated fields concatenated:
        # https://protobuf.dev/programming-guides/encoding/#last-one-wins
        return self._data + onnx.ModelProto(graph=addition).SerializeToString()

    def fetch_name(self, name: str) -> str:
        """Tell under which name a session hands a layer over: its own unless it has to be widened."""
        return f"{name} as float32" if name in self._widened else name

    def shapes(self, input_shapes: Mapping[str, Sequence[int]]) -> dict[str, Shape | None]:
        """Infer the shapes of the graph's tensors for inputs of these shapes."""
        types = infer_types(self._skeleton, input_shapes)
        return {name: shape_of(value) for name, value in types.items() if is_tensor(value)}


def _feedable(value: onnx.ValueInfoProto) -> TensorSpec:
    if value.type.WhichOneof("value") != "tensor_type" or needs_widening(value.type):
        raise ModelLoadError(
            f'the input "{value.name}" is of type {type_name(value.type)}, which can\'t be fed'
        )
    return spec_of(value.name, value.type)


def _modules(metadata: Mapping[str, str]) -> dict[str, str]:
    """Read the module path of each layer from the table that the exporter left in the file."""
    try:
        table: Iterable[Mapping[str, str]] = json.loads(metadata.get("featurelens.layers", "[]"))
        return {entry["name"]: entry.get("module", "") for entry in table}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelLoadError(
            'the metadata "featurelens.layers" is not a JSON list of objects with "name" and "module"'
        ) from None
