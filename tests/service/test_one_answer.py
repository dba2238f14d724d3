"""The same request gets the same answer, to the bit, whichever sessions come and go."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.device import Execution
from service.graph import Array
from service.model import Model
from service.tap_memory import TapMemory
from tests.service.conftest import add_model
from tests.service.onnx_models import in_float16, lenet, residual
from tests.serving import Serving


class Calibration(CalibrationDataReader):  # type: ignore[misc] # untyped
    """One batch of noise."""

    def __init__(self) -> None:
        self._left = [{"image": np.random.default_rng(0).random((16, 1, 32, 32), dtype=np.float32)}]

    def get_next(self) -> dict[str, Array] | None:
        return self._left.pop() if self._left else None


def narrow_classifier() -> onnx.ModelProto:
    narrow = in_float16(residual())
    del narrow.graph.output[1:]
    return narrow


def quantized() -> onnx.ModelProto:
    """LeNet between QuantizeLinear and DequantizeLinear, as ONNX Runtime's own quantizer writes it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_static(lenet(), path, Calibration())
        return onnx.load(path)


MODELS = {
    "lenet": lenet(),
    "float16": narrow_classifier(),
    "quantized": quantized(),
    "residual": residual(),
}
SENSITIVE = ("float16", "quantized", "residual")
"""Those whose answers differ in their last digits with which layers are outputs."""


def feed(model: Model) -> dict[str, Array]:
    spec = model.inputs[0]
    shape = [2 if size is None else size for size in spec.shape or ()]
    return {spec.name: np.random.default_rng(0).random(shape).astype(spec.dtype)}


def requests(model: Model) -> list[tuple[str, ...]]:
    """Name sets of layers, more than are ever held: each alone, and all."""
    names = tuple(model.graph.layers)
    return [*((name,) for name in names), names]


def answer(model: Model, layers: Sequence[str]) -> list[bytes]:
    outputs = [*(spec.name for spec in model.outputs), *layers]
    return [array.tobytes() for array in model.run(feed(model), outputs).values()]


@pytest.fixture(params=MODELS)
def proto(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return MODELS[request.param]


@pytest.mark.parametrize("threads", [1, 2])
def test_sessions_that_come_and_go_change_no_answer(proto: onnx.ModelProto, threads: int) -> None:
    data = proto.SerializeToString()
    execution = Execution(intra_op_threads=threads)
    fresh = Model(data, execution, tap_capacity=100)
    expected = {layers: answer(fresh, layers) for layers in requests(fresh)}

    worn = Model(data, execution, tap_capacity=2, tap_memory=TapMemory(3 * fresh.graph.footprint))
    with ThreadPoolExecutor(4) as pool:
        for asked in (requests(worn), reversed(requests(worn))):
            order = list(asked)
            for layers, got in zip(order, pool.map(lambda layers: answer(worn, layers), order), strict=True):
                assert got == expected[layers], layers
    assert worn.tap_counts.live <= 2
    assert worn.tap_counts.evictions > len(expected)


@pytest.mark.parametrize("name", SENSITIVE)
def test_what_else_is_asked_for_does_change_an_answer(name: str) -> None:
    # Or the test above would show nothing: this is what a session for all layers would answer.
    model = Model(MODELS[name].SerializeToString(), Execution())
    outputs = [spec.name for spec in model.outputs]
    together = model.run(feed(model), [*outputs, *(names := tuple(model.graph.layers))])
    apart = [(n, model.run(feed(model), [*outputs, n])) for n in names]
    assert any(alone[n].tobytes() != together[n].tobytes() for name, alone in apart for n in [*outputs, name])


@pytest.mark.parametrize("name", ["float16", "quantized"])
def test_callers_get_the_answer_that_they_got_before(name: str, serving: Serving, tmp_path: Path) -> None:
    add_model(tmp_path, name, MODELS[name])
    model = Model(MODELS[name].SerializeToString(), Execution())
    tensor = pack(feed(model)[model.inputs[0].name])
    with (
        serving(model_repository=tmp_path, tap_sessions=1) as server,
        grpc.insecure_channel(server.address) as channel,
    ):

        def ask(layers: Sequence[str]) -> list[bytes]:
            response = ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=tensor, layers=layers))
            scores = [score.probability for image in response.results for score in image.scores]
            return [
                np.array(scores).tobytes(),
                *(layer.SerializeToString() for layer in response.feature_maps),
            ]

        before = {layers: ask(layers) for layers in requests(model)}
        assert {layers: ask(layers) for layers in reversed(before)} == before
