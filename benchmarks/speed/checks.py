"""Calls a server as any client does and compares its answers with ONNX Runtime's, beside a load too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from math import inf
from threading import Event, Thread

import grpc

from benchmarks.speed.digits import batch
from benchmarks.speed.protocols import Exchange, Protocol
from benchmarks.speed.reference import WrongAnswerError

_INTERVAL_S = 0.1
_DEADLINE_S = 30
# Requests that begin with different digits.
_DIGITS, _APART = 4, 7
# The times in an answer are varints: small ones take less.
_VARYING_BYTES = 8
_CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Checker:
    """Sends a few requests in turn and checks the answers; close it to end its connection."""

    def __init__(self, address: str, protocol: Protocol, images: int, layers: Sequence[str]) -> None:
        self._address = address
        self._protocol = protocol
        self._exchanges = [protocol.exchange(batch(i * _APART, images), layers) for i in range(_DIGITS)]
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self.checked = 0
        self._smallest: float = inf

    @property
    def messages(self) -> list[bytes]:
        """What the load repeats: one request, or those of a stream."""
        return [self._exchanges[0].request] * self._protocol.messages

    @property
    def smallest_call(self) -> int:
        """The least bytes that the answers to one call have, by the answers so far."""
        return self._protocol.messages * (int(self._smallest) - _VARYING_BYTES + self._protocol.frame_bytes)

    def check(self) -> None:
        """Send every request once.

        Raises:
            WrongAnswerError: an answer is an error or not what ONNX Runtime gives.
        """
        for exchange in self._exchanges:
            self._check(exchange)

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Check ten times a second while the block runs."""
        done = Event()
        wrong: list[WrongAnswerError] = []
        thread = Thread(target=self._keep_checking, args=(done, wrong))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if wrong:
            raise wrong[0]

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def _keep_checking(self, done: Event, wrong: list[WrongAnswerError]) -> None:
        while not done.wait(_INTERVAL_S) and not wrong:
            try:
                self._check(self._exchanges[self.checked % _DIGITS])
            except WrongAnswerError as error:
                wrong.append(error)

    def _check(self, exchange: Exchange) -> None:
        requests = [exchange.request] * self._protocol.messages
        try:
            answers = self._call(requests)
        except (grpc.RpcError, OSError) as error:
            raise WrongAnswerError(f"{self._protocol.path} answered {error}") from error
        if len(answers) != len(requests):
            raise WrongAnswerError(f"{len(answers)} answers to {len(requests)} requests")
        for answer in answers:
            exchange.verify(answer)
        self._smallest = min(self._smallest, *map(len, answers))
        self.checked += 1

    def _call(self, requests: Sequence[bytes]) -> list[bytes]:
        if not self._protocol.is_grpc:
            return [self._post(requests[0])]
        path, metadata = self._protocol.path, self._protocol.metadata
        if self._protocol.messages == 1:
            unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
            return [unary(requests[0], timeout=_DEADLINE_S, metadata=metadata)]
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(path)
        return list(stream(iter(requests), timeout=_DEADLINE_S, metadata=metadata))

    def _post(self, body: bytes) -> bytes:
        connection = HTTPConnection(self._address, timeout=_DEADLINE_S)
        with closing(connection):
            connection.request(
                "POST", self._protocol.path, body, {"content-type": self._protocol.content_type}
            )
            response = connection.getresponse()
            answer = response.read()
        if response.status != HTTPStatus.OK:
            raise WrongAnswerError(f"{self._protocol.path} answered with status {response.status}")
        return answer


def answers(protocol: Protocol, address: str) -> bool:
    """Tell whether a server answers, and right."""
    with closing(Checker(address, protocol, 1, ())) as checker:
        try:
            checker.check()
        except WrongAnswerError:
            return False
        return True
