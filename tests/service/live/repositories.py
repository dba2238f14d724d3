"""Changes model repositories while they are served, and waits for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event

import grpc
import numpy as np
import onnx
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.service import onnx_models
from tests.service.oip.stub import InferenceStub, arrays, request

TIMEOUT_S = 15
LOGITS = "softmax = false\n"
"""A config.toml under which the scores are those of the model's file."""

X = np.array([[0.0, 1.0]], np.float32)

Index = Mapping[str, tuple[str, str]]
"""State and reason by "name/version"."""


def version(number: int) -> onnx.ModelProto:
    """A classifier that tells its version: the score of its class 1 is three times it."""
    return onnx_models.classifier(2, gain=float(number))


def put(folder: Path, name: str, number: int, model: onnx.ModelProto | bytes | None = None) -> Path:
    """Put a version into a repository at once, as the documents recommend; return its file."""
    data = version(number) if model is None else model
    place = folder / name / str(number)
    file = place.with_name(f".{number}") / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
    file.parent.rename(place)
    return place / "model.onnx"


def configure(folder: Path, name: str, text: str) -> None:
    """Replace a config.toml at once."""
    new = folder / name / ".config.toml"
    new.write_text(LOGITS + text)
    new.rename(new.with_name("config.toml"))


def ask(stub: ClassifierStub, number: str = "", name: str = "") -> tuple[str, float]:
    """Ask a model made by `version`: which version answered, and what it says it is."""
    asked = pb.ClassifyRequest(model=name, version=number, tensor=pack(X))
    answer = stub.Classify(asked, timeout=TIMEOUT_S)
    score = next(score.probability for score in answer.results[0].scores if score.index == 1)
    return answer.version, score / 3


def ask_inference(stub: InferenceStub) -> tuple[str, float]:
    """Ask the model "tiny" over the other protocol."""
    answer = stub.ModelInfer(request("tiny", [("x", "FP32", X)]), timeout=TIMEOUT_S)
    return answer.model_version, float(arrays(answer)["scores"][0, 1]) / 3


def refusal(stub: ClassifierStub, number: str = "", name: str = "") -> tuple[grpc.StatusCode, str]:
    """Ask a model that doesn't answer; return the status."""
    with pytest.raises(grpc.RpcError) as info:
        ask(stub, number, name)
    assert isinstance(info.value, grpc.Call)
    return info.value.code(), info.value.details() or ""


def index(stub: ClassifierStub) -> Index:
    models = stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S).models
    return {
        f"{model.name}/{model.version}": (
            pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_"),
            model.reason,
        )
        for model in models
    }


def wait_for(stub: ClassifierStub, expected: Callable[[Index], bool]) -> Index:
    """Look at the index until it is as expected; fail with what it is if that takes too long."""
    give_up_s = time.monotonic() + TIMEOUT_S
    while not expected(found := index(stub)):
        assert time.monotonic() < give_up_s, found
        Event().wait(0.02)  # leaves the CPU to the server
    return found


def wait_until(stub: ClassifierStub, **states: str) -> Index:
    """Wait until the versions of the model "tiny" are in these states, and no other is there."""
    expected = {f"tiny/{number.removeprefix('v')}": state for number, state in states.items()}
    return wait_for(stub, lambda found: {key: state for key, (state, _) in found.items()} == expected)


def wait_until_true(condition: Callable[[], bool]) -> None:
    """Ask again and again; fail if that takes too long."""
    give_up_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < give_up_s
        Event().wait(0.02)
