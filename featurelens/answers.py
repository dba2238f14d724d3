"""Reads the contract's answers into the values that callers get."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import grpc
import numpy as np

from featurelens.errors import FeaturelensError
from featurelens.feature_maps import FeatureMaps
from featurelens.results import (
    Array,
    Head,
    ImageWarning,
    Layer,
    ModelDescription,
    ModelSummary,
    Outcome,
    Prediction,
    Preprocessing,
    ReceptiveField,
    Score,
    TensorInfo,
    Timings,
)
from protos.featurelens.v1 import classifier_pb2 as pb
from protos.tensors import dtype_of, unpack

_PATTERN = re.compile(r"op:|.*[*?[]")
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def predictions(answer: pb.ClassifyResponse) -> list[Prediction]:
    """Return one prediction per image, in the request's order; arrays are views into the answer."""
    asked = _aliases(answer.resolved)
    maps = {tensor.name: unpack(tensor) for tensor in answer.feature_maps}
    alone = {layer.name: [unpack(tensor) for tensor in layer.tensors] for layer in answer.layers_alone}
    seen = unpack(answer.input) if answer.HasField("input") else None
    times = answer.timings
    timings = Timings(times.decode_ns, times.queue_ns, times.compute_ns, times.run_batch_size)
    return [
        Prediction(
            scores=tuple(Score(score.index, score.label, score.probability) for score in result.scores),
            model=answer.model,
            version=answer.version,
            digest=answer.digest,
            timings=timings,
            feature_maps=FeatureMaps(
                {name: _row(values, position) for name, values in (maps | alone).items()}, asked
            ),
            input=None if seen is None else seen[position],
            warnings=tuple(ImageWarning(each.code, each.message) for each in result.warnings),
        )
        for position, result in enumerate(answer.results)
    ]


def _row(values: Array | Sequence[Array], position: int) -> Array:
    """Return what one image has, as an array in any case: numpy makes scalars of vectors' elements."""
    return np.asarray(values[position])


def outcome(answer: pb.ClassifyStreamResponse) -> Outcome:
    """Return what became of a stream's request for one image."""
    if answer.HasField("error"):
        return FeaturelensError(_CODE_NAMES.get(answer.error.code, "UNKNOWN"), answer.error.message)
    return predictions(answer.response)[0]


def model_summaries(answer: pb.ListModelsResponse) -> list[ModelSummary]:
    """Return every version of every model."""
    return [
        ModelSummary(
            name=model.name,
            version=model.version,
            state=pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_"),
            reason=model.reason,
            digest=model.digest,
            provider=model.provider,
            labels=tuple(model.labels),
        )
        for model in answer.models
    ]


def model_description(answer: pb.DescribeModelResponse) -> ModelDescription:
    """Return the description of a model."""
    shape = answer.preprocessing
    return ModelDescription(
        name=answer.name,
        version=answer.version,
        digest=answer.digest,
        provider=answer.provider,
        labels=tuple(answer.labels),
        preprocessing=Preprocessing(
            shape.kind,
            shape.channels,
            shape.height,
            shape.width,
            shape.description,
            shape.layout,
            shape.color,
        ),
        inputs=tuple(_tensor_info(info) for info in answer.inputs),
        outputs=tuple(_tensor_info(info) for info in answer.outputs),
        layers=tuple(_layer(layer) for layer in answer.layers),
        parameters=answer.parameters,
        opset=answer.opset,
        producer=answer.producer,
        metadata=dict(answer.metadata),
        resolved=_aliases(answer.resolved),
        fixed_batch=answer.fixed_batch,
        head=_head(answer.head) if answer.HasField("head") else None,
        not_a_classifier=answer.not_a_classifier,
    )


def _aliases(resolved: Iterable[pb.ResolvedLayer]) -> dict[str, str]:
    """Return the layer that each name stands for which stands for one: patterns may, by chance."""
    return {each.asked: each.names[0] for each in resolved if not _PATTERN.match(each.asked) and each.names}


def _head(head: pb.HeadInfo) -> Head:
    return Head(head.output, head.kind, head.multi_label, head.reason)


def _tensor_info(info: pb.TensorInfo) -> TensorInfo:
    return TensorInfo(info.name, dtype_of(info.data_type).name, tuple(info.shape), info.channel_axis)


def _layer(layer: pb.Layer) -> Layer:
    return Layer(
        name=layer.name,
        op_type=layer.op_type,
        module=layer.module,
        inputs=tuple(layer.inputs),
        dtype=dtype_of(layer.data_type).name,
        output_shape=tuple(layer.output_shape),
        kernel_shape=tuple(layer.kernel_shape),
        strides=tuple(layer.strides),
        pads=tuple(layer.pads),
        dilations=tuple(layer.dilations),
        group=layer.group,
        parameters=layer.parameters,
        receptive_field=_receptive_field(layer),
        weights=_weights(layer),
        auxiliary=layer.auxiliary,
        channel_axis=layer.channel_axis,
        aliases=tuple(layer.aliases),
        follows_batch=layer.follows_batch,
    )


def _receptive_field(layer: pb.Layer) -> ReceptiveField | None:
    if not layer.HasField("receptive_field"):
        return None
    field = layer.receptive_field
    return ReceptiveField(tuple(field.size), tuple(field.jump), tuple(field.start))


def _weights(layer: pb.Layer) -> tuple[Array, ...]:
    return tuple(unpack(tensor) for tensor in layer.weights)
