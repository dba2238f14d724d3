"""What comes, changes and goes in the repository of a server that is running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from tests.service.live.repositories import ask, configure, put, refusal, wait_for, wait_until
from tests.serving import Serving

SETTLE_S = 0.1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    put(folder, "tiny", 1)
    configure(folder, "tiny", "")
    return folder


@pytest.fixture
def stub(folder: Path, serving: Serving) -> Iterator[ClassifierStub]:
    """A server that follows the folder. New versions are not tried first: most tests aren't about that."""
    settings = {"watch_settle_s": SETTLE_S, "trial_timeout_s": 0}
    with (
        serving(model_repository=folder, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield ClassifierStub(channel)


def test_a_new_version_takes_the_place_of_the_old(folder: Path, stub: ClassifierStub) -> None:
    assert ask(stub) == ("1", 1.0)
    put(folder, "tiny", 2)
    wait_until(stub, v2="READY")
    assert ask(stub) == ("2", 2.0)
    assert refusal(stub, "1") == (grpc.StatusCode.NOT_FOUND, 'model "tiny" has no version "1"; it has 2')


def test_a_broken_version_is_refused_and_the_old_one_serves_on(folder: Path, stub: ClassifierStub) -> None:
    file = put(folder, "tiny", 2, b"no model")
    found = wait_until(stub, v1="READY", v2="UNAVAILABLE")
    assert found["tiny/2"][1].startswith("model.onnx can't be loaded: ")
    assert ask(stub) == ("1", 1.0)
    file.unlink()
    wait_for(stub, lambda found: found["tiny/2"][1] == "model.onnx is missing")
