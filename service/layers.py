"""Walks the nodes of a graph: how each tensor is computed, with which weights, and what it sees."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import structlog
from onnx import TensorProto, numpy_helper
from structlog.typing import FilteringBoundLogger

from service.channel_axes import ChannelAxes
from service.field_rules import Step, propagate
from service.onnx_file import element_count, infer_types, is_described_only
from service.operators import FORMING, OF_SIZES, Operator, Window, learned_inputs, window
from service.receptive_field import Field, ReceptiveField, of_image
from service.scopes import scopes_of
from service.tensors import Shape, TensorSpec, is_tensor, shape_of, spec_of

log: FilteringBoundLogger = structlog.get_logger()

_INTEGERS = (TensorProto.INT64, TensorProto.INT32)
# What reading a node raises if its attributes or shapes are not those that its operator should have.
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Layer:
    """One tensor that the graph computes, and the operator that computes it.

    Attributes:
        name: Its name in the graph.
        op_type: The ONNX operator, such as Conv.
        module: Path in the code that the model was exported from; empty where the file doesn't tell.
        auxiliary: Whether "all layers" leaves it out. So it is with what depends on the sizes of the inputs
            and not on their elements (the shape arithmetic of exporters), unless it is a declared output;
            and, where the file has a table of its layers, with what isn't in it, a reshape say.
        inputs: The tensors it is computed from, constants left out.
        spec: Its type and shape.
        kernel_shape: Kernel sizes of a convolution or pooling, per spatial axis; empty for others.
        strides: Steps of its window.
        pads: Padding: the beginnings of all axes, then the ends; empty where it depends on an unknown size.
        dilations: Spacing of the kernel's elements.
        group: Number of groups of a convolution; 0 where the operator has none.
        parameters: Number of learned parameters.
        receptive_field: What an element sees of the image; None where it can't be told.
        weights: Names of the constants that hold the learned parameters, in the operator's order.
    """

    name: str
    op_type: str
    module: str
    auxiliary: bool
    inputs: tuple[str, ...]
    spec: TensorSpec
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int
    parameters: int
    receptive_field: ReceptiveField | None
    weights: tuple[str, ...]


class LayerWalk:
    """One pass over the nodes of a graph, in their order, which ONNX requires to be topological.

    Attributes:
        layers: The layers seen, in graph order. Tensors that depend on no input are constants, not layers.
        scopes: The modules around each node, in graph order.
        channel_axes: The axis that holds channels, counted from the end, of the tensors where it is known.
        learned: Sizes of the constants that hold learned parameters, by name.
        types: Types of the graph's tensors, as far as inference can tell.
    """

    def __init__(self, model: onnx.ModelProto, table: Mapping[str, str]) -> None:
        self.layers: dict[str, Layer] = {}
        self.learned: dict[str, int] = {}
        self.types = infer_types(model)
        self._table = table
        self._declared = {value.name for value in model.graph.output}
        self._opsets = {opset.domain: opset.version for opset in model.opset_import}
        # The tensor that each constant stems from; None for those that were computed from several.
        self._constants: dict[str, TensorProto | None] = {t.name: t for t in model.graph.initializer}
        self._constants.update((sparse.values.name, None) for sparse in model.graph.sparse_initializer)
        self.inputs = [value for value in model.graph.input if value.name not in self._constants]
        self._elements = {value.name for value in self.inputs}  # what depends on the inputs' elements
        self._behind_weights: set[str] = set()
        self._shapes = self._shapes_for_one_item(model)
        self._shapes.update((t.name, tuple(t.dims)) for t in model.graph.initializer)
        self._batch: int | None = None
        self._fields = self._image_fields()
        operators = [Operator(node, self._opsets.get(node.domain, 0)) for node in model.graph.node]
        self.scopes = [scopes_of(node, table) for node in model.graph.node]
        for operator, scopes in zip(operators, self.scopes, strict=True):
            self._visit(operator, scopes[-1] if scopes else "")
        ranks = {name: len(shape) for name, shape in self._shapes.items() if shape is not None}
        self.channel_axes = ChannelAxes(ranks).find(operators)

    def _shapes_for_one_item(self, model: onnx.ModelProto) -> dict[str, Shape | None]:
        """Infer shapes for a batch of one, if the batch is free: fewer sizes are unknown then."""
        shapes = {value.name: shape_of(value.type) for value in self.inputs}
        one_item = {name: (1,) for name, shape in shapes.items() if shape and shape[0] is None}
        types = infer_types(model, one_item) if one_item else self.types
        return {name: shape_of(value) for name, value in types.items() if is_tensor(value)}

    def _image_fields(self) -> dict[str, Field | None]:
        """Start the receptive fields, if exactly one input can be an image."""
        images = [v.name for v in self.inputs if len(self._shapes.get(v.name) or ()) > 2]
        if len(images) != 1:
            return {value.name: None for value in self.inputs}
        shape = self._shapes[images[0]] or ()
        self._batch = shape[0]
        return {images[0]: of_image(shape)}

    def _visit(self, operator: Operator, module: str) -> None:
        node = operator.node
        inputs, outputs = [n for n in node.input if n], [n for n in node.output if n]
        if not operator.has_subgraph and all(name in self._constants for name in inputs):
            self._constants.update(dict.fromkeys(outputs, self._origin(operator)))
            return
        learned, geometry = self._describe(operator, outputs)
        self.learned.update((tensor.name, element_count(tensor)) for tensor in learned)
        if learned or not self._behind_weights.isdisjoint(inputs):
            self._behind_weights.update(outputs)
        if operator.has_subgraph or (
            operator.op_type not in OF_SIZES and not self._elements.isdisjoint(inputs)
        ):
            self._elements.update(outputs)
        for name in outputs:
            # The weights are told once, with the operator's first output.
            self._add(operator, name, module, geometry, learned if name == node.output[0] else ())

    def _describe(self, operator: Operator, outputs: list[str]) -> tuple[tuple[TensorProto, ...], Window]:
        """Tell the weights and the window, and follow what the outputs see, as far as it can be told.

        Only ONNX Runtime decides whether a model is valid; what this can't read is unknown.
        """
        try:
            geometry = window(operator, self._shapes)
            for name in outputs:
                self._follow(operator, geometry, name)
            return learned_inputs(operator, self._constants, self._behind_weights), geometry
        except _UNREADABLE as error:
            log.warning("layer not understood", layer=outputs[:1], op=operator.op_type, reason=str(error))
            self._fields.update(dict.fromkeys(outputs))
            return (), Window()

    def _origin(self, operator: Operator) -> TensorProto | None:
        """Find the tensor that a constant stems from, if it is only another form of it."""
        if operator.op_type in FORMING:
            return self._constants[operator.node.input[0]]
        if operator.op_type != "Constant":
            return None
        tensor = TensorProto()
        if "value" in operator.attributes:
            tensor.CopyFrom(operator.attributes["value"])
        elif integers := {"value_int", "value_ints"} & operator.attributes.keys():
            tensor = numpy_helper.from_array(np.array(operator.attributes[integers.pop()], np.int64))
        else:
            return None
        tensor.name = operator.node.output[0]
        self._shapes[tensor.name] = tuple(tensor.dims)
        return tensor

    def _follow(self, operator: Operator, geometry: Window, output: str) -> None:
        """Note what the output sees of the image; nothing if it doesn't depend on the image's pixels."""
        if operator.has_subgraph:  # it may use any tensor of the graph
            self._fields[output] = None
            return
        inputs = operator.node.input
        fields = {i: self._fields[name] for i, name in enumerate(inputs) if name in self._fields}
        if not fields or operator.op_type in OF_SIZES:
            return
        self._fields[output] = propagate(
            Step(
                operator=operator,
                window=geometry,
                fields=fields,
                shapes=[self._shapes.get(name) for name in inputs],
                integers=[self._integers(name) for name in inputs],
                output_shape=self._shapes.get(output),
                batch=self._batch,
            )
        )

    def _integers(self, name: str) -> tuple[int, ...] | None:
        tensor = self._constants.get(name)
        if tensor is None or is_described_only(tensor) or tensor.data_type not in _INTEGERS:
            return None
        return tuple(numpy_helper.to_array(tensor).ravel().tolist())

    def _add(
        self,
        operator: Operator,
        name: str,
        module: str,
        geometry: Window,
        learned: tuple[TensorProto, ...],
    ) -> None:
        value = self.types.get(name)
        if not is_tensor(value):
            return
        field = self._fields.get(name)
        self.layers[name] = Layer(
            name=name,
            op_type=operator.op_type,
            module=self._table.get(name, module),
            auxiliary=self._is_auxiliary(name),
            inputs=tuple(n for n in operator.node.input if n and n not in self._constants),
            spec=spec_of(name, value),
            kernel_shape=geometry.kernel_shape,
            strides=geometry.strides,
            pads=geometry.pads,
            dilations=geometry.dilations,
            group=geometry.group,
            parameters=sum(element_count(tensor) for tensor in learned),
            receptive_field=field.told if field else None,
            weights=tuple(tensor.name for tensor in learned),
        )

    def _is_auxiliary(self, name: str) -> bool:
        if self._table and name not in self._table:
            return True
        return name not in self._elements and name not in self._declared


def module_table(metadata: Mapping[str, str]) -> dict[str, str]:
    """Read the module path of each layer from the table that the exporter left in the file's metadata."""
    try:
        table: Iterable[Mapping[str, str]] = json.loads(metadata.get("featurelens.layers", "[]"))
        return {entry["name"]: entry.get("module", "") for entry in table}
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("the metadata featurelens.layers is not a JSON list of objects with name and module")
        return {}
