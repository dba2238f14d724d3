"""Clients of a server process, each with a connection of its own, that call one time after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import grpc
import numpy as np

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as inference
from protos.tensors import pack
from tests.e2e.processes import TIMEOUT_S
from tests.service.oip.stub import InferenceStub

OK = grpc.StatusCode.OK
DIGIT = pack(np.zeros((1, 1, 32, 32), np.float32))

_PROCESS_CHARACTERS = 16


def process_of(request_id: str) -> str:
    """Return the part of an id made by the server that tells its process."""
    return request_id[:_PROCESS_CHARACTERS]


def connect(address: str) -> grpc.Channel:
    """Open a connection; channels to the same address share one otherwise."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def classify(channel: grpc.Channel) -> tuple[grpc.StatusCode, str]:
    """Make a call; return its status, and the id that the server gave it, or why there was no answer."""
    try:
        answer = ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=DIGIT), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return OK, answer.id


def successes(channel: grpc.Channel) -> int:
    """Return how many requests the statistics of the only model call answered."""
    (statistics,) = InferenceStub(channel).ModelStatistics(inference.ModelStatisticsRequest()).model_stats
    count: int = statistics.inference_stats.success.count
    return count


class Client:
    """Calls until it is told to end.

    Attributes:
        outcomes: of every call, as `classify` returns them.
    """

    def __init__(self, address: str) -> None:
        self.outcomes: list[tuple[grpc.StatusCode, str]] = []
        self._address = address
        self._answered = Event()
        self._end = Event()
        self._thread = Thread(target=self._run)

    def start(self) -> None:
        """Start, and wait for the first outcome."""
        self._thread.start()
        assert self._answered.wait(TIMEOUT_S)

    def end(self) -> None:
        """End after the call that is under way."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with connect(self._address) as channel:
            while not self._end.is_set():
                self.outcomes.append(classify(channel))
                self._answered.set()


@contextmanager
def clients(address: str, count: int) -> Iterator[list[Client]]:
    """Have clients call until the block is left; each has made a call when it is entered."""
    calling = [Client(address) for _ in range(count)]
    try:
        for client in calling:
            client.start()
        yield calling
    finally:
        for client in calling:
            client.end()
