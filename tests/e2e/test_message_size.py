"""Messages over the limit: refused, and nothing of them stays in memory, whichever transport took them."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.e2e.processes import TIMEOUT_S, server_process

MB = 1_000_000
DIGIT = pack(np.zeros((1, 1, 32, 32), np.float32))


@pytest.mark.parametrize(
    "compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip], ids=lambda kind: kind.name
)
@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_what_is_over_the_limit_is_refused_and_forgotten(
    transport: str, compression: grpc.Compression
) -> None:
    unlimited = [("grpc.max_send_message_length", -1)]
    with (
        server_process("--transport", transport, "--max-request-bytes=1000000") as server,
        grpc.insecure_channel(server.address, unlimited) as channel,
    ):
        stub = ClassifierStub(channel)
        send: Any = channel.unary_unary("/featurelens.v1.Classifier/Classify", None, None)
        stub.Classify(pb.ClassifyRequest(tensor=DIGIT), timeout=TIMEOUT_S)
        before = server.resident_bytes
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                send(bytes(96 * MB), compression=compression, timeout=TIMEOUT_S)
            assert isinstance(refused.value, grpc.Call)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        while server.resident_bytes - before > 32 * MB:  # a moment, and no other call
            pass
        assert stub.Classify(pb.ClassifyRequest(tensor=DIGIT), timeout=TIMEOUT_S).results
        assert server.terminate() == 0
