"""What the protocol has to know of a model on every call, made once per model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from protos.inference import messages as pb
from service.api.oip import parameters
from service.api.oip.datatypes import BYTES, datatype
from service.errors import InvalidRequestError
from service.model import Model
from service.repository import ServedModel


class Wanted(NamedTuple):
    """An output that is asked for."""

    name: str
    """What it was asked for as, and is returned as."""
    tensor: str
    """The tensor that this stands for."""
    top_k: int = 0
    """How many classes of it; 0 for the tensor itself."""
    bfloat16: bool = False
    """Whether it is bfloat16, for which the engine hands over float32."""


class Interface:
    """Names and types of a model's inputs and outputs. It doesn't hold the model, so a cache can.

    Attributes:
        datatypes: of the inputs, by name.
        declared: the outputs that are meant where none is named.
        image_input: the input that image files can be sent for, if the model's preprocessing is known.
    """

    def __init__(self, served: ServedModel) -> None:
        model, classifier = served.model, served.classifier_or_none
        inputs = (*model.inputs, *model.optional_inputs)
        self.datatypes = {spec.name: datatype(spec) for spec in inputs}
        layers = (layer.spec for layer in model.graph.layers.values())
        self._bfloat16 = frozenset(spec.name for spec in (*model.outputs, *layers) if spec.bfloat16)
        self.declared = tuple(
            Wanted(spec.name, spec.name, bfloat16=spec.name in self._bfloat16) for spec in model.outputs
        )
        self.image_input = None
        if classifier and classifier.preprocessing.kind != "none":
            self.image_input = classifier.input.name
        self._declared_names = frozenset(wanted.name for wanted in self.declared)
        self._names = model.names

    def wanted(self, request: pb.ModelInferRequest) -> tuple[Wanted, ...]:
        """Return the outputs that a request asks for.

        Raises:
            InvalidRequestError: there is no such output or layer, a name stands for several, or one is asked
                for twice.
        """
        if not request.outputs:
            return self.declared
        if len({output.name for output in request.outputs}) < len(request.outputs):
            raise InvalidRequestError("an output is asked for twice; ask for each once")
        return tuple([self._wanted(output) for output in request.outputs])

    def _wanted(self, output: pb.ModelInferRequest.InferRequestedOutputTensor) -> Wanted:
        tensor = self._names.one(output.name)
        top_k = parameters.top_k(output.parameters) if output.parameters else 0
        return Wanted(output.name, tensor, top_k, tensor in self._bfloat16)

    def layers(self, tensors: Iterable[str]) -> list[str]:
        """Return those of the wanted tensors that are not declared outputs."""
        return [tensor for tensor in tensors if tensor not in self._declared_names]


class Interfaces:
    """The interfaces of the models that were asked for, for as long as these live."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Model, Interface] = WeakKeyDictionary()

    def of(self, served: ServedModel) -> Interface:
        """Return the interface of a model."""
        if (interface := self._known.get(served.model)) is None:
            interface = self._known[served.model] = Interface(served)
        return interface


def takes_images(interface: Interface, request: pb.ModelInferRequest) -> bool:
    """Tell whether a request sends image files for an input of numbers."""
    return (
        interface.image_input is not None
        and len(request.inputs) == 1
        and request.inputs[0].datatype == BYTES
        and request.inputs[0].name == interface.image_input
    )
