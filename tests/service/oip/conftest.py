"""Fixtures of the protocol's tests: one server of many small models, and one of the shipped LeNet."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.service.oip.models import fill
from tests.service.oip.stub import InferenceStub
from tests.serving import serving


@pytest.fixture(scope="package")
def zoo_address(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the models of `models.py`, over each transport."""
    folder = fill(tmp_path_factory.mktemp("zoo"))
    with serving(model_repository=folder, transport=transport) as server:
        yield server.address


@pytest.fixture
def zoo(zoo_address: str) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(zoo_address) as channel:
        yield InferenceStub(channel)


@pytest.fixture
def lenet(server_address: str) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(server_address) as channel:
        yield InferenceStub(channel)
