"""The graph of a model: its inputs and outputs, the layers that can be asked for, and their weights.

Knows the ONNX file, not the runtime that executes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import onnx
from onnx import helper

from service.determinism import is_deterministic
from service.errors import ModelLoadError
from service.footprint import footprint
from service.graph_heads import HeadWalk, Trace
from service.graph_labels import class_labels
from service.layers import Layer, LayerWalk, module_table
from service.lineage import Lineage
from service.modules import Modules, find_modules
from service.onnx_file import constant_sizes, infer_types, read_constants, read_skeleton
from service.receptive_field import ReceptiveField
from service.tensors import (
    Array,
    Shape,
    TensorSpec,
    foreign_element,
    is_tensor,
    shape_of,
    spec_of,
    type_name,
    wider_element,
)

__all__ = ["Array", "Graph", "Layer", "ReceptiveField", "Shape", "TensorSpec"]


@dataclass(frozen=True, eq=False)
class Graph:
    """A parsed model file.

    Attributes:
        inputs: What a run has to be given.
        optional_inputs: What a run may be given too: constants that it can override.
        outputs: The declared outputs that are tensors; sequences, maps and optionals can't be handed over.
        other_outputs: The names of those.
        layers: The tensors that the graph computes from its inputs, by name, in graph order. Declared outputs
            are among them; constants, what is inside of a control-flow operator, sequences and maps are not.
        modules: The modules of the code that the model was exported from, and what they compute.
        nodes: The first output of each node that has a name, if it is a layer.
        channel_axes: The axis that holds channels, counted from the last, which is -1, of the tensors with at
            least 4 axes of which the graph proves it: inputs and layers.
        metadata: The file's own key-value pairs.
        opset: Version of the ONNX operator set.
        producer: What wrote the file, such as "pytorch 2.13.0".
        parameters: Number of learned parameters. Learned are the constants that feed the weight inputs of
            operators which have such (Conv, Gemm, MatMul, the normalizations); and, behind the first of them,
            the floating-point constants of more than one element that Add, Mul, Concat or Expand take (a
            bias, a positional embedding). So constants that normalize the input don't count.
        foreign: ONNX element types of the tensors whose elements numpy has no type for, by name.
        deterministic: Whether equal inputs get equal outputs.
        footprint: Estimate of the bytes that a session holds.
    """

    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    other_outputs: tuple[str, ...]
    layers: Mapping[str, Layer]
    modules: Modules
    nodes: Mapping[str, str]
    channel_axes: Mapping[str, int]
    metadata: Mapping[str, str]
    opset: int
    producer: str
    parameters: int
    foreign: Mapping[str, int]
    deterministic: bool
    footprint: int
    _data: bytes = field(repr=False)
    _skeleton: onnx.ModelProto = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Graph:
        """Read a model file.

        Raises:
            ModelLoadError: It is not a complete ONNX model, keeps weights in other files, has an input that
                can't be fed, or gives no tensor at all.
        """
        model = read_skeleton(data)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        walk = LayerWalk(model, module_table(metadata))
        outputs = [value for value in model.graph.output if is_tensor(walk.types.get(value.name))]
        if not outputs and not walk.layers:
            raise ModelLoadError(f"none of the model's outputs is a tensor: {_kinds(model.graph.output)}")
        return cls(
            inputs=tuple(_feedable(value) for value in walk.inputs),
            optional_inputs=tuple(spec_of(value.name, value.type) for value in _overridable(model)),
            outputs=tuple(spec_of(value.name, walk.types.get(value.name)) for value in outputs),
            other_outputs=tuple(value.name for value in model.graph.output if value not in outputs),
            layers=walk.layers,
            modules=find_modules(
                model.graph, walk.scopes, {n for n, layer in walk.layers.items() if not layer.auxiliary}
            ),
            nodes=_node_names(model.graph, walk.layers),
            channel_axes=walk.channel_axes,
            metadata=metadata,
            opset=max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0),
            producer=f"{model.producer_name} {model.producer_version}".strip(),
            parameters=sum(walk.learned.values()),
            foreign={name: e for name, value in walk.types.items() if (e := foreign_element(value))},
            deterministic=is_deterministic(model),
            footprint=footprint(model),
            _data=data,
            _skeleton=model,
        )

    @cached_property
    def fetchable(self) -> frozenset[str]:
        """Everything that a run can return: the declared outputs and the layers."""
        return frozenset(spec.name for spec in self.outputs) | frozenset(self.layers)

    def lineage(self) -> Lineage:
        """Tell what each tensor is computed from."""
        return Lineage(self._skeleton)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the learned parameters of all layers, one that several share counted for each."""
        return self.weight_bytes_of(self.layers)

    def weight_bytes_of(self, layers: Iterable[str]) -> int:
        """Count the bytes of the learned parameters of these layers, as `weight_bytes` does for all."""
        sizes = constant_sizes(self._skeleton)
        return sum(sizes[name] for layer in layers for name in self.layers[layer].weights)

    def weights(self, layers: Iterable[str] | None = None) -> dict[str, Array]:
        """Return the learned parameters of these layers, or of all, by name."""
        names = {name for layer in layers or self.layers for name in self.layers[layer].weights}
        return read_constants(self._data, names) if names else {}

    def with_outputs(self, names: Collection[str]) -> bytes:
        """Serialize the model with these layers added to its outputs.

        Those of a type that numpy lacks, and declared outputs of such a type, come in a wider one, under the
        names that `fetch_name` tells.
        """
        declared = {value.name for value in self._skeleton.graph.output}
        names = dict.fromkeys((*names, *(spec.name for spec in self.outputs if spec.name in self.foreign)))
        fetched = [self.fetch_name(name) for name in names]
        if declared.issuperset(fetched):
            return self._data
        addition = onnx.GraphProto(
            node=[
                helper.make_node(
                    "Cast", [name], [self.fetch_name(name)], to=wider_element(self.foreign[name])
                )
                for name in names
                if name in self.foreign
            ],
            output=[onnx.ValueInfoProto(name=name) for name in fetched if name not in declared],
        )
        # Serialized messages that follow each other merge when parsed, repeated fields concatenated:
        # https://protobuf.dev/programming-guides/encoding/#last-one-wins
        return self._data + onnx.ModelProto(graph=addition).SerializeToString()

    def fetch_name(self, name: str) -> str:
        """Tell under which name a session hands a layer over: its own unless it has to be widened."""
        return f"{name} widened" if name in self.foreign else name

    def shapes(self, input_shapes: Mapping[str, Sequence[int]]) -> dict[str, Shape | None]:
        """Infer the shapes of the graph's tensors for inputs of these shapes."""
        types = infer_types(self._skeleton, input_shapes)
        return {name: shape_of(value) for name, value in types.items() if is_tensor(value)}

    def trace(self, output: str, classes: int | None) -> Trace:
        """Tell what computes an output of so many classes; None: it isn't known how many."""
        return HeadWalk(self._skeleton, {name: each.spec.shape for name, each in self.layers.items()}).trace(
            output, classes
        )

    def class_labels(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of classes that the graph's operators carry, those of each operator."""
        return tuple(class_labels(self._skeleton))


def _feedable(value: onnx.ValueInfoProto) -> TensorSpec:
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelLoadError(
            f'the input "{value.name}" is of type {type_name(value.type)}, which can\'t be fed'
        )
    return spec_of(value.name, value.type)


def _node_names(graph: onnx.GraphProto, layers: Collection[str]) -> dict[str, str]:
    named = [node for node in graph.node if node.name and node.output]
    return {node.name: node.output[0] for node in reversed(named) if node.output[0] in layers}


def _kinds(values: Iterable[onnx.ValueInfoProto]) -> str:
    return ", ".join(f'"{value.name}" is of type {type_name(value.type)}' for value in values)


def _overridable(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    # Before version 4 every initializer had to be an input too, which meant nothing:
    # https://github.com/onnx/onnx/blob/main/docs/IR.md#graphs
    constants = {tensor.name for tensor in model.graph.initializer} if model.ir_version >= 4 else ()
    return [value for value in model.graph.input if value.name in constants]
