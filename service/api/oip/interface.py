"""What the protocol has to know of a model on every call, made once per model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from protos.inference import messages as pb
from service.api.oip import parameters
from service.api.oip.datatypes import BYTES, datatype
from service.errors import InvalidRequestError, UnknownLayerError
from service.model import Model
from service.repository import ServedModel

_LONGEST_NAME = 200  # of a caller's, in an error and in the search for similar ones


class Wanted(NamedTuple):
    """An output that is asked for."""

    name: str
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
            Wanted(spec.name, bfloat16=spec.name in self._bfloat16) for spec in model.outputs
        )
        self.image_input = None
        if classifier and classifier.preprocessing.kind != "none":
            self.image_input = classifier.input.name
        self._declared_names = frozenset(wanted.name for wanted in self.declared)
        self._fetchable = model.graph.fetchable

    def wanted(self, request: pb.ModelInferRequest) -> tuple[Wanted, ...]:
        """Return the outputs that a request asks for.

        Raises:
            InvalidRequestError: there is no such output or layer, or one is asked for twice.
        """
        if not request.outputs:
            return self.declared
        wanted = [
            Wanted(
                output.name,
                parameters.top_k(output.parameters) if output.parameters else 0,
                output.name in self._bfloat16,
            )
            for output in request.outputs
        ]
        names = {output.name for output in wanted}
        if len(names) < len(wanted):
            raise InvalidRequestError("an output is asked for twice; ask for each once")
        for name in names - self._fetchable:
            raise UnknownLayerError(self._unknown(name))
        return tuple(wanted)

    def layers(self, names: Iterable[str]) -> list[str]:
        """Return those of the wanted outputs that are not declared."""
        return [name for name in names if name not in self._declared_names]

    def _unknown(self, name: str) -> str:
        shown = name[:_LONGEST_NAME]
        close = difflib.get_close_matches(shown, self._fetchable, n=3)
        names = ", ".join(f'"{name}"' for name in close or [output.name for output in self.declared[:20]])
        hint = (
            f"did you mean {names}?" if close else f"the model has {names}, and ModelConfig lists its layers"
        )
        return f'no output or layer "{shown}"; {hint}'


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
