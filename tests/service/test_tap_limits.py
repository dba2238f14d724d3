"""What sessions for layers may take of a server: memory, and time to build them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.build_time import BuildTime
from service.device import Execution
from service.footprint import footprint
from service.freed_memory import give_back
from service.model import Model
from service.settings import MiB
from service.tap_memory import TapMemory
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.onnx_models import node, value
from tests.serving import Serving

WIDTH = 1024
WEIGHTS = 4 * WIDTH**2  # bytes: 4 MiB


def heavy() -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w", "product"),
        *(node("Neg", f"l{i - 1}" if i else "product", f"l{i}") for i in range(8)),
    ]
    weights = {"w": np.ones((WIDTH, WIDTH), np.float32)}
    return onnx_models.model(nodes, [value("x", ["n", WIDTH])], [value("l7", ["n", WIDTH])], weights)


def held_bytes() -> int:
    give_back()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def ask(model: Model, layer: str) -> None:
    model.run({"x": np.ones((1, WIDTH), np.float32)}, ["l7", layer])


def test_a_session_holds_the_weights_once_and_what_was_estimated() -> None:
    model = Model(heavy().SerializeToString(), Execution())
    ask(model, "l0")
    before = held_bytes()
    for layer in ("l1", "l2", "l3"):
        ask(model, layer)
    grown = held_bytes() - before
    assert WEIGHTS < model.graph.footprint < WEIGHTS + MiB
    assert grown < 3 * model.graph.footprint + 2 * MiB


def test_memory_stays_bounded_however_many_models_and_sets_there_are() -> None:
    memory = TapMemory(3 * WEIGHTS)
    models = [Model(heavy().SerializeToString(), Execution(), tap_memory=memory) for _ in range(3)]
    before = held_bytes()
    for model in models * 2:
        for i in range(4):
            ask(model, f"l{i}")
        assert held_bytes() - before < 3 * WEIGHTS + 2 * MiB
    assert [model.tap_counts.live for model in models] == [0, 0, 2]


@pytest.mark.parametrize(
    ("element", "size"), [(TensorProto.FLOAT, 4), (TensorProto.FLOAT16, 4), (TensorProto.INT8, 1)]
)
def test_weights_count_as_they_are_held(element: int, size: int) -> None:
    proto = onnx_models.classifier()
    before = footprint(proto)
    proto.graph.initializer.append(TensorProto(name="w2", data_type=element, dims=[1000, 1000]))
    assert footprint(proto) - before == 10**6 * size


def test_a_model_over_the_bound_is_answered_all_the_same(serving: Serving, tmp_path: Path) -> None:
    add_model(tmp_path, "heavy", heavy())
    x = pack(np.ones((1, WIDTH), np.float32))
    with (
        serving(model_repository=tmp_path, tap_memory_mib=4) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        for _ in range(2):
            answer = ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=x, layers=["l1"]))
            assert np.frombuffer(answer.feature_maps[0].data, np.float32).tolist() == [WIDTH] * WIDTH


def test_a_flood_of_new_sets_is_refused_and_known_ones_are_answered(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.taps.BuildTime", partial(BuildTime, share=1e-6, most_s=0.0))
    x = pack(np.zeros((1, 1, 32, 32), np.float32))
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        known, new = (pb.ClassifyRequest(tensor=x, layers=[name]) for name in ("conv1", "relu1"))
        stub.Classify(known)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Classify(new)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(refused.value.details()).startswith(
            "too many different sets of layers were asked of this model"
        )
        assert stub.Classify(known).feature_maps
        assert stub.Classify(pb.ClassifyRequest(tensor=x)).results
