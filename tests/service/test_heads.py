"""Heads of every kind: probabilities through a server, over both transports, and how they were decided."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.service.conftest import add_model
from tests.service.head_models import KEPT, OTHERS, PROBABILITIES
from tests.service.test_classify import probabilities
from tests.serving import serving as run_server

Z = np.array([[6, 1, 0, -2], [0, 0, 0, 0]], np.float32)
TOLERANCES = {"cast": 1e-3, "half": 1e-3, "quantized": 1 / 255}
"""What the types that the values go through allow, as a share of 1; 1e-6 otherwise."""
KINDS = {**dict.fromkeys(KEPT, "softmax"), **{name: kind for name, (_, kind, _) in OTHERS.items()}}
EXPECTED = {**dict.fromkeys(KEPT, PROBABILITIES), **{name: row for name, (_, _, row) in OTHERS.items()}}


@pytest.fixture(scope="module")
def heads(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClassifierStub]:
    """A server of all these models."""
    folder = tmp_path_factory.mktemp("heads")
    for name, build in {**KEPT, **{name: build for name, (build, _, _) in OTHERS.items()}}.items():
        add_model(folder, name, build())
    with (
        run_server(model_repository=folder, transport=transport) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield ClassifierStub(channel)


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_are_those_that_the_model_means(heads: ClassifierStub, name: str) -> None:
    answer = heads.Classify(pb.ClassifyRequest(model=name, tensor=pack(Z)))

    assert len(answer.results) == len(Z)
    tolerance = TOLERANCES.get(name, 1e-6)
    np.testing.assert_allclose(probabilities(answer)[0], EXPECTED[name], rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", KINDS)
def test_a_model_tells_its_kind_of_head_and_why(heads: ClassifierStub, name: str) -> None:
    described = heads.DescribeModel(pb.DescribeModelRequest(model=name))

    assert described.head.kind == KINDS[name]
    assert described.head.multi_label == (KINDS[name] == "sigmoid" and name != "binary")
    assert described.head.reason
    assert described.not_a_classifier == ""


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("linear", ["ant", "bee", "cat", "dog"]),
        ("tree_ensemble", ["7", "8", "9"]),
        ("binary", ["positive"]),
        ("logits", ["0", "1", "2", "3"]),
    ],
)
def test_labels_are_those_of_the_file_or_numbers(heads: ClassifierStub, name: str, labels: list[str]) -> None:
    assert list(heads.DescribeModel(pb.DescribeModelRequest(model=name)).labels) == labels
