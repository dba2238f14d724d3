"""A repository of hundreds of models and versions, some of them broken, served by one process."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.e2e.processes import TIMEOUT_S, command, server_process
from tests.service import onnx_models
from tests.service.conftest import add_model

MODELS = 150
VERSIONS = ("1", "2")
BROKEN = 5


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose second score is three times what their name and version say."""
    folder = tmp_path_factory.mktemp("models")
    for i in range(MODELS):
        for version in VERSIONS:
            gain = 0.01 * (i + 1) * int(version)
            add_model(folder, f"model{i:03}", onnx_models.classifier(2, gain=gain), version)
        (folder / f"model{i:03}" / "config.toml").write_text("versions.all = true\nsoftmax = false\n")
    for i in range(BROKEN):
        add_model(folder, f"broken{i}", b"no model")
    return folder


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_each_of_hundreds_answers(
    repository: Path, transport: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    what = f"{MODELS * len(VERSIONS)} versions over {transport}"
    started_s = time.perf_counter()
    arguments = ("--model-repository", str(repository), "--transport", transport)
    with server_process(*arguments) as server, grpc.insecure_channel(server.address) as channel:
        record_testsuite_property(f"{what}, seconds to ready", round(time.perf_counter() - started_s, 2))
        record_testsuite_property(f"{what}, ready", memory_and_threads(server.process.pid))
        stub = ClassifierStub(channel)
        models = stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S).models
        ready = [(m.name, m.version) for m in models if m.state == pb.MODEL_STATE_READY]
        answers = {(name, version): answer(stub, name, version) for name, version in ready}
        record_testsuite_property(f"{what}, after a call each", memory_and_threads(server.process.pid))
        assert server.terminate() == 0

    unavailable = [m.name for m in models if m.state == pb.MODEL_STATE_UNAVAILABLE]
    assert unavailable == [f"broken{i}" for i in range(BROKEN)]
    assert answers == {
        (f"model{i:03}", version): pytest.approx(0.03 * (i + 1) * int(version), rel=1e-5)
        for i in range(MODELS)
        for version in VERSIONS
    }
    assert len(server.line) < 200
    assert re.match(r"featurelens is serving model000, .* and 140 more on ", server.line)


def answer(stub: ClassifierStub, name: str, version: str) -> float:
    """Return the score of the class with weights 1 and 3 for the input 0 and 1."""
    tensor = pack(np.array([[0.0, 1.0]], np.float32))
    request = pb.ClassifyRequest(model=name, version=version, tensor=tensor)
    response = stub.Classify(request, timeout=TIMEOUT_S)
    assert (response.model, response.version) == (name, version)
    return next(score.probability for score in response.results[0].scores if score.index == 1)


def memory_and_threads(pid: int) -> str:
    """Tell what a process takes, as Linux counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return ", ".join(re.findall(r"^(?:VmRSS|Threads):.*$", status, re.MULTILINE)).replace("\t", " ")


def test_a_second_signal_ends_it_while_it_loads(tmp_path: Path) -> None:
    add_model(tmp_path, "endless", onnx_models.endless())
    process = subprocess.Popen(
        command("--model-repository", str(tmp_path)),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert any("loading models" in line for line in process.stderr)
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        assert process.wait(TIMEOUT_S) in {128 + signal.SIGTERM, 128 + signal.SIGINT}
