"""ListModels and DescribeModel: what the repository holds, and what a model is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from google.protobuf.message import DecodeError

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.tensors import data_type_of, pack
from service.api.call import Call
from service.api.dispatch import Handler, off_thread
from service.classifier import Classifier
from service.errors import InvalidRequestError, LimitExceededError
from service.graph import Array, Graph, Layer, Shape, TensorSpec
from service.layer_names import Resolution
from service.model import Model
from service.preprocessing import Preprocessing
from service.repository import Entry, Repository, ServedModel, State

_STATES = {
    State.LOADING: pb.MODEL_STATE_LOADING,
    State.READY: pb.MODEL_STATE_READY,
    State.UNAVAILABLE: pb.MODEL_STATE_UNAVAILABLE,
}


class DescribeMethods:
    """Answers questions about models; descriptions are made on `workers`, since weights can be large."""

    def __init__(self, repository: Repository, workers: Executor, max_response_bytes: int) -> None:
        self._repository = repository
        self._max_response_bytes = max_response_bytes
        self.describe_model: Handler = off_thread(self._describe_model, workers)

    def list_models(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ListModelsResponse."""
        models = [
            _summary(entry, self._repository.labels(entry.name)) for entry in self._repository.entries()
        ]
        response = pb.ListModelsResponse(models=models)
        call.succeed(response.SerializeToString())

    def _describe_model(self, data: bytes, call: Call) -> None:
        try:
            request = pb.DescribeModelRequest.FromString(data)
        except DecodeError as error:
            raise InvalidRequestError("the request is not an encoded DescribeModelRequest") from error
        served = self._repository.get(request.model, request.version)
        names = served.model.names.resolve(request.layers) if request.layers else None
        if request.include_weights:
            graph = served.model.graph
            self._check_size(graph.weight_bytes_of(names.layers) if names else graph.weight_bytes)
        answer = _description(served, names, include_weights=request.include_weights).SerializeToString()
        self._check_size(len(answer))
        call.succeed(answer)

    def _check_size(self, size: int) -> None:
        if size > self._max_response_bytes:
            raise LimitExceededError(
                f"the answer has {size} bytes, the limit is {self._max_response_bytes};"
                " ask without the weights"
            )


def _summary(entry: Entry, labels: Mapping[str, int]) -> pb.ModelSummary:
    model = entry.served.model if entry.served else None
    return pb.ModelSummary(
        name=entry.name,
        version=entry.version,
        state=_STATES[entry.state],
        reason=entry.reason,
        digest=model.digest if model else "",
        provider=model.provider if model else "",
        labels=[label for label, version in labels.items() if str(version) == entry.version],
    )


def _description(
    served: ServedModel, names: Resolution | None, *, include_weights: bool
) -> pb.DescribeModelResponse:
    """Describe a model, with the layers that are named; else with all."""
    model = served.model
    graph = model.graph
    layers = names.layers if names else tuple(graph.layers)
    meant = names.meant if names else {}
    classifier = served.classifier_or_none
    weights = graph.weights(layers) if include_weights else {}
    return pb.DescribeModelResponse(
        name=served.name,
        version=served.version,
        digest=model.digest,
        provider=model.provider,
        labels=classifier.labels if classifier else (),
        preprocessing=_preprocessing(classifier),
        inputs=[_tensor_info(spec, graph) for spec in model.inputs],
        outputs=[_tensor_info(spec, graph) for spec in model.outputs],
        layers=[_layer(model, graph.layers[name], weights) for name in layers],
        resolved=[pb.ResolvedLayer(asked=asked, names=each) for asked, each in meant.items()],
        parameters=graph.parameters,
        opset=graph.opset,
        producer=graph.producer,
        metadata=graph.metadata,
        fallback_reason=model.fallback_reason,
        fixed_batch=model.fixed_batch,
        head=_head(classifier),
        not_a_classifier=served.not_a_classifier,
    )


def _head(classifier: Classifier | None) -> pb.HeadInfo | None:
    if classifier is None:
        return None
    head = classifier.head
    return pb.HeadInfo(
        output=head.output, kind=head.kind.value, multi_label=head.multi_label, reason=head.reason
    )


def _preprocessing(classifier: Classifier | None) -> pb.PreprocessingInfo:
    preprocessing = classifier.preprocessing if classifier else Preprocessing(kind="none")
    return pb.PreprocessingInfo(
        kind=preprocessing.kind,
        channels=preprocessing.channels,
        height=preprocessing.height,
        width=preprocessing.width,
        description=preprocessing.description,
        layout=preprocessing.layout,
        color=preprocessing.color,
    )


def _tensor_info(spec: TensorSpec, graph: Graph) -> pb.TensorInfo:
    return pb.TensorInfo(
        name=spec.name,
        data_type=_data_type(spec),
        shape=_sizes(spec.shape),
        channel_axis=graph.channel_axes.get(spec.name, 0),
    )


def _layer(model: Model, layer: Layer, weights: Mapping[str, Array]) -> pb.Layer:
    return pb.Layer(
        name=layer.name,
        op_type=layer.op_type,
        module=layer.module,
        auxiliary=layer.auxiliary,
        inputs=layer.inputs,
        data_type=_data_type(layer.spec),
        output_shape=_sizes(layer.spec.shape),
        kernel_shape=layer.kernel_shape,
        strides=layer.strides,
        pads=layer.pads,
        dilations=layer.dilations,
        group=layer.group,
        parameters=layer.parameters,
        receptive_field=_receptive_field(layer),
        weights=[pack(weights[name], name) for name in layer.weights if name in weights],
        channel_axis=model.graph.channel_axes.get(layer.name, 0),
        aliases=model.names.paths.get(layer.name, ()),
        follows_batch=layer.name in model.rows.following,
    )


def _receptive_field(layer: Layer) -> pb.ReceptiveField | None:
    if (field := layer.receptive_field) is None:
        return None
    return pb.ReceptiveField(size=field.size, jump=field.jump, start=field.start)


def _sizes(shape: Shape | None) -> Sequence[int]:
    return [-1 if size is None else size for size in shape or ()]


def _data_type(spec: TensorSpec) -> pb.DataType.ValueType:
    if spec.dtype is None or spec.dtype.kind == "O":
        return pb.DATA_TYPE_UNSPECIFIED
    return data_type_of(spec.dtype)
