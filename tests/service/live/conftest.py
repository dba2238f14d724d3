"""A server that follows a folder with one model, "tiny"."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from tests.service.live.repositories import configure, put
from tests.service.oip.stub import InferenceStub
from tests.serving import Serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with version 1 of the model "tiny"."""
    folder = tmp_path / "models"
    put(folder, "tiny", 1)
    configure(folder, "tiny", "")
    return folder


@pytest.fixture
def channel(folder: Path, serving: Serving) -> Iterator[grpc.Channel]:
    """A server that follows the folder. New versions are not tried first: most tests aren't about that."""
    settings = {"watch_settle_s": 0.1, "trial_timeout_s": 0, "model_control": True}
    with (
        serving(model_repository=folder, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> ClassifierStub:
    return ClassifierStub(channel)


@pytest.fixture
def inference(channel: grpc.Channel) -> InferenceStub:
    return InferenceStub(channel)
