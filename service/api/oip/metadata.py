"""What the server is, whether it and its models are ready, and what models take and give."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from protos.inference import messages as pb
from service.api.call import Call
from service.api.oip.datatypes import BYTES, datatype
from service.api.oip.requests import parse
from service.errors import ModelNotReadyError
from service.graph import TensorSpec
from service.model import Model
from service.repository import Repository, ServedModel, State
from service.versions import version_of

_NAME = "featurelens"
_PLATFORM = "onnxruntime_onnx"
_LAYERS = "featurelens_layers"
_EXTENSIONS = (
    *("classification", "model_configuration", "parameters", "schedule_policy", "statistics"),
    _LAYERS,
)


class MetadataMethods:
    """Answers from the index of models alone.

    Args:
        repository: the models.
        is_ready: tells whether the server takes requests.
        max_batch_size: most items along axis 0 of a request.
    """

    def __init__(self, repository: Repository, is_ready: Callable[[], bool], max_batch_size: int) -> None:
        self._repository = repository
        self._is_ready = is_ready
        self._max_batch_size = max_batch_size

    def server_live(self, _request: bytes, call: Call) -> None:
        """Answer with an encoded ServerLiveResponse."""
        call.succeed(pb.ServerLiveResponse(live=True).SerializeToString())

    def server_ready(self, _request: bytes, call: Call) -> None:
        """Answer with an encoded ServerReadyResponse."""
        call.succeed(pb.ServerReadyResponse(ready=self._is_ready()).SerializeToString())

    def server_metadata(self, _request: bytes, call: Call) -> None:
        """Answer with an encoded ServerMetadataResponse."""
        version = version_of(_NAME) or "unknown"
        response = pb.ServerMetadataResponse(name=_NAME, version=version, extensions=_EXTENSIONS)
        call.succeed(response.SerializeToString())

    def model_ready(self, data: bytes, call: Call) -> None:
        """Answer with an encoded ModelReadyResponse."""
        request = parse(pb.ModelReadyRequest, data)
        try:
            self._repository.get(request.name, request.version)
        except ModelNotReadyError:
            ready = False
        else:
            ready = self._is_ready()
        call.succeed(pb.ModelReadyResponse(ready=ready).SerializeToString())

    def model_metadata(self, data: bytes, call: Call) -> None:
        """Answer with an encoded ModelMetadataResponse."""
        request = parse(pb.ModelMetadataRequest, data)
        served = self._repository.get(request.name, request.version)
        entries = self._repository.entries()
        any_number = _takes_any_number(served.model)
        response = pb.ModelMetadataResponse(
            name=served.name,
            versions=[e.version for e in entries if e.name == served.name and e.state is State.READY],
            platform=_PLATFORM,
            inputs=[_tensor(spec, any_number=any_number) for spec in served.model.inputs],
            outputs=[_tensor(spec, any_number=any_number) for spec in served.model.outputs],
        )
        call.succeed(response.SerializeToString())

    def model_config(self, data: bytes, call: Call) -> None:
        """Answer with an encoded ModelConfigResponse."""
        request = parse(pb.ModelConfigRequest, data)
        config = _config(self._repository.get(request.name, request.version), self._max_batch_size)
        call.succeed(pb.ModelConfigResponse(config=config).SerializeToString())


def _takes_any_number(model: Model) -> bool:
    """Tell whether requests may hold any number of items, whatever the file says."""
    return bool(model.fixed_batch) and model.batches([spec.name for spec in model.outputs])


def _tensor(spec: TensorSpec, *, any_number: bool) -> pb.ModelMetadataResponse.TensorMetadata:
    sizes = [-1, *_sizes(spec)[1:]] if any_number else _sizes(spec)
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=datatype(spec), shape=sizes)


def _config(served: ServedModel, max_batch_size: int) -> pb.ModelConfig:
    model = served.model
    batches = bool(model.inputs) and model.batches([spec.name for spec in model.outputs])
    first = int(batches)  # a configuration leaves the batch out of the dims
    return pb.ModelConfig(
        name=served.name,
        platform=_PLATFORM,
        backend="onnxruntime",
        default_model_filename="model.onnx",
        max_batch_size=max_batch_size if batches else 0,
        dynamic_batching=pb.ModelDynamicBatching() if batches else None,
        input=[
            pb.ModelInput(
                name=spec.name,
                data_type=_data_type(spec),
                format=_format(served, spec),
                dims=_sizes(spec)[first:],
            )
            for spec in model.inputs
        ],
        output=[
            pb.ModelOutput(name=spec.name, data_type=_data_type(spec), dims=_sizes(spec)[first:])
            for spec in model.outputs
        ],
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
        parameters={_LAYERS: pb.ModelParameter(string_value=json.dumps(model.names.all))},
    )


def _sizes(spec: TensorSpec) -> Sequence[int]:
    """Return the sizes of the axes, -1 for any; one -1 where not even the rank is known."""
    if spec.shape is None:
        return [-1]
    return [-1 if size is None else size for size in spec.shape]


def _data_type(spec: TensorSpec) -> pb.DataType.ValueType:
    name = datatype(spec) or "INVALID"
    return pb.DataType.Value(f"TYPE_{'STRING' if name == BYTES else name}")


def _format(served: ServedModel, spec: TensorSpec) -> pb.ModelInput.Format.ValueType:
    classifier = served.classifier_or_none
    if classifier is None or classifier.input.name != spec.name or classifier.preprocessing.kind == "none":
        return pb.ModelInput.FORMAT_NONE
    return pb.ModelInput.Format.Value(f"FORMAT_{classifier.preprocessing.layout}")
