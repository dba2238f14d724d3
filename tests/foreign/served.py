"""What the server answers: a model's declared outputs and its layers, and the classes of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import numpy as np

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as oip
from protos.tensors import pack, unpack
from tests.foreign.model import Array, Feeds
from tests.service.oip.stub import WIRE, InferenceStub, arrays, request

_MANY_BYTES = 1 << 29
_SECONDS = 20
_DATATYPES = {np.dtype(numpy_type): name for name, numpy_type in WIRE.items()}
LIMITS = {
    "max_response_bytes": _MANY_BYTES,
    "max_unread_bytes": _MANY_BYTES,
    "max_layers_per_request": 4096,
}
"""Settings of the server that let all layers of a large model come in one answer."""


class Served:
    """The models of one server."""

    def __init__(self, address: str) -> None:
        sizes = [(f"grpc.max_{way}_message_length", _MANY_BYTES) for way in ("receive", "send")]
        self._channel = grpc.insecure_channel(address, sizes)
        self._inference = InferenceStub(self._channel)
        self._classifier = ClassifierStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def reasons(self) -> dict[str, str]:
        """Tell why models aren't served, by name."""
        models = self._classifier.ListModels(pb.ListModelsRequest()).models
        return {model.name: model.reason for model in models if model.state != pb.MODEL_STATE_READY}

    def describe(self, name: str) -> pb.DescribeModelResponse:
        """Describe a model."""
        description: pb.DescribeModelResponse = self._classifier.DescribeModel(
            pb.DescribeModelRequest(model=name)
        )
        return description

    def items_per_run(self, name: str) -> float:
        """Tell how many items the runs of a model have held so far, on average."""
        (counts,) = self._inference.ModelStatistics(oip.ModelStatisticsRequest(name=name)).model_stats
        return float(counts.inference_count / counts.execution_count)

    def infer(self, name: str, feeds: Feeds, outputs: Iterable[str] = ()) -> dict[str, Array]:
        """Run a model on a request's inputs."""
        inputs = [(key, _DATATYPES[array.dtype], array) for key, array in feeds.items()]
        answer = self._inference.ModelInfer(request(name, inputs, outputs), timeout=_SECONDS)
        return arrays(answer)

    def infer_together(
        self, name: str, requests: Sequence[Feeds], outputs: Sequence[str] = ()
    ) -> list[dict[str, Array]]:
        """Run as many callers as there are requests, all at once."""
        start = Barrier(len(requests))

        def call(feeds: Feeds) -> dict[str, Array]:
            start.wait()
            return self.infer(name, feeds, outputs)

        with ThreadPoolExecutor(len(requests)) as callers:
            return list(callers.map(call, requests))

    def classify(self, name: str, tensor: Array, layers: Sequence[str] = ()) -> Classes:
        """Classify the items of a tensor, and look at layers of each."""
        message = pb.ClassifyRequest(model=name, tensor=pack(tensor), layers=layers)
        return Classes(self._classifier.Classify(message, timeout=_SECONDS))


class Classes:
    """An answer of Classify."""

    def __init__(self, answer: pb.ClassifyResponse) -> None:
        self._answer = answer

    def probabilities(self, item: int) -> Array:
        """Return the probability of each class of an item, in the order of the classes."""
        scores = sorted(self._answer.results[item].scores, key=lambda score: score.index)
        return np.array([score.probability for score in scores], np.float32)

    def layers(self, item: int) -> dict[str, Array]:
        """Return the layers as they are of an item alone, the batch's axis kept."""
        rows = {tensor.name: unpack(tensor)[item : item + 1] for tensor in self._answer.feature_maps}
        alone = {layer.name: unpack(layer.tensors[item]) for layer in self._answer.layers_alone}
        return rows | alone
