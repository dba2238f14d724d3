"""A process whose memory is limited: a run that needs more fails alone, and the server lives."""

from __future__ import annotations

import resource
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.e2e.processes import TIMEOUT_S, server_process
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.oip.stub import Code, InferenceStub, arrays, failure, request

ROOM = 512 * 2**20
FITS, TOO_MUCH = 2.0**20, 2.0**28  # float32 of 4 MiB and 1 GiB


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_run_that_needs_more_memory_than_there_is_fails_alone(tmp_path: Path, transport: str) -> None:
    add_model(tmp_path, "expanding", onnx_models.expanding())
    arguments = ("--model-repository", str(tmp_path), "--transport", transport, "--log-level", "error")
    with server_process(*arguments) as server, grpc.insecure_channel(server.address, OPTIONS) as channel:
        stub = InferenceStub(channel)
        assert size(stub, FITS) == FITS
        limit_memory(server.process.pid)
        outcomes = [failure(stub.ModelInfer, of(TOO_MUCH))[0] for _ in range(3)]
        assert outcomes == [Code.INTERNAL] * 3
        assert size(stub, FITS) == FITS
        assert server.terminate() == 0


OPTIONS = [("grpc.max_receive_message_length", -1)]


def of(count: float) -> object:
    return request("expanding", [("x", "FP32", np.array([[count]], np.float32))])


def size(stub: InferenceStub, count: float) -> int:
    return int(arrays(stub.ModelInfer(of(count), timeout=TIMEOUT_S))["y"].size)


def limit_memory(pid: int) -> None:
    """Let a process take so much more address space than it has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
