"""`featurelens classify` where the layers are more than one answer may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from featurelens import Client, FeaturelensError
from featurelens.cli.portions import classify_all
from featurelens.requests import ClassifyOptions
from protos.featurelens.v1.classifier_pb2 import (
    Classification,
    ClassifyResponse,
    ClassifyStreamResponse,
    DescribeModelResponse,
    Layer,
    Score,
    StreamError,
)
from tests.featurelens.conftest import SAMPLES, Command, Ended
from tests.featurelens.servers import Unimplemented, failing_server
from tests.serving import serving

Asked = Callable[..., Ended]
ONE = SAMPLES / "1_test00002.png"


@pytest.fixture
def asked_of(command: Command, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Run the command against a LeNet with other limits, over the transport that takes no time to start."""

    def run(limits: dict[str, int], *arguments: object) -> Ended:
        with serving(transport="grpcio", **limits) as server:
            monkeypatch.setenv("FEATURELENS_SERVER", server.address)
            return command(*arguments)

    return run


@pytest.mark.parametrize("limits", [{"max_layers_per_request": 5}, {"max_response_bytes": 40_000}])
def test_all_layers_come_whatever_the_limits(
    asked_of: Asked, command: Command, seven: Path, tmp_path: Path, limits: dict[str, int]
) -> None:
    whole = command("classify", seven, ONE, "--save-maps", tmp_path / "whole")
    ended = asked_of(limits, "classify", seven, ONE, "--save-maps", tmp_path / "parts")

    assert (ended.status, ended.err) == (0, "")
    assert ended.out.replace("parts", "whole") == whole.out
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*"))
    assert len(files) == 2 * (2 * 12 + 1)
    for file in files:
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_what_patterns_stand_for_comes_in_portions_too(asked_of: Asked, seven: Path) -> None:
    arguments = ("classify", seven, "--layers", "conv*,node_softmax,op:Relu", "--output", "json")
    (entry,) = json.loads(asked_of({"max_layers_per_request": 3}, *arguments).out)

    assert list(entry["layers"]) == [*("conv1", "conv2", "node_softmax", "relu1", "relu2", "relu3", "relu4")]


def test_a_layer_over_the_limit_is_named_and_left_out(asked_of: Asked, seven: Path) -> None:
    limits = {"max_response_bytes": 18_000}  # conv1 has 18,816 bytes, relu1 too
    ended = asked_of(limits, "classify", seven, ONE, "--layers", "all", "--output", "json")

    assert ended.status == 1
    for entry in json.loads(ended.out):
        assert "pool1" in entry["layers"]
        assert not {"conv1", "relu1"} & set(entry["layers"])
    first, *others = ended.err.splitlines()
    assert first.startswith(f"featurelens: {seven}: conv1: the answer would have ")
    assert [line.split(": ")[1:3] for line in others] == [
        *([str(seven), "relu1"], [str(ONE), "conv1"], [str(ONE), "relu1"])
    ]


def test_a_bad_image_among_portions_is_named(asked_of: Asked, seven: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    limits = {"max_layers_per_request": 5}
    ended = asked_of(limits, "classify", seven, bad, ONE, "--layers", "all", "--output", "json")

    assert ended.status == 1
    assert [len(entry["layers"]) for entry in json.loads(ended.out)] == [12, 12]
    assert ended.err.startswith(f"featurelens: {bad}: ")


class Changing(Unimplemented):
    """Answers a stream that an answer is too large; then one layer at a time, of another file each time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str]]] = []

    def DescribeModel(self, request: Any, context: Any) -> DescribeModelResponse:  # noqa: ANN401, N802
        return DescribeModelResponse(
            name="net", version="3", digest="d0", layers=[Layer(name=n) for n in "ab"]
        )

    def Classify(self, request: Any, context: Any) -> ClassifyResponse:  # noqa: ANN401, N802
        self.asked.append((request.model, request.version, list(request.layers)))
        scores = [Score(index=0, label="cat", probability=1.0)]
        return ClassifyResponse(
            model="net", version="3", digest="d1", results=[Classification(scores=scores)]
        )

    def ClassifyStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: ANN401, N802
        for request in request_iterator:
            yield ClassifyStreamResponse(id=request.id, error=StreamError(code=8, message="too large"))


def test_all_portions_are_of_one_version_and_file(command: Command, seven: Path) -> None:
    servicer = Changing()
    with failing_server(servicer) as address:
        ended = command("classify", seven, "--server", address, "--layers", "all")

    assert ended.status == 2
    assert ended.err == (
        "featurelens: the file of net version 3 was replaced while its layers were asked for;"
        " run the command again\n"
    )
    assert servicer.asked == [("net", "3", ["a", "b"])]


def test_an_image_that_is_too_much_itself_is_not_taken_apart(command: Command, seven: Path) -> None:
    class Full(Changing):
        def Classify(self, request: Any, context: Any) -> ClassifyResponse:  # noqa: ANN401, N802
            self.asked.append((request.model, request.version, list(request.layers)))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
            raise AssertionError

    servicer = Full()
    with failing_server(servicer) as address:
        ended = command("classify", seven, "--server", address, "--layers", "all")

    assert (ended.status, ended.err) == (1, f"featurelens: {seven}: the queue is full\n")
    assert [layers for _, _, layers in servicer.asked] == [["a", "b"], []]


def test_nothing_is_asked_in_portions_without_layers(command: Command, seven: Path) -> None:
    servicer = Changing()
    with failing_server(servicer) as address:
        ended = command("classify", seven, "--server", address)

    assert (ended.status, ended.err) == (1, f"featurelens: {seven}: too large\n")
    assert servicer.asked == []


def test_other_errors_of_a_stream_end_it(seven: Path) -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(FeaturelensError, match="no featurelens server answers"),
    ):
        list(classify_all(client, [str(seven)], ClassifyOptions(layers=["*"])))


def test_maps_of_portions_are_those_of_one_answer(asked_of: Asked, seven: Path, tmp_path: Path) -> None:
    asked_of({"max_layers_per_request": 1}, "classify", seven, "--layers", "conv?", "--save-maps", tmp_path)

    assert np.load(tmp_path / seven.stem / "conv2.npy").shape == (16, 10, 10)
