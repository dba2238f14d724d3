"""A channel between two processes: either end asks the other by name, in lines of JSON over a socket."""

from __future__ import annotations

import itertools
import json
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from threading import Lock
from typing import Any, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger

_log: FilteringBoundLogger = structlog.get_logger()

JSON: TypeAlias = Any
"""What json.dumps takes and json.loads gives."""

Answer = Callable[[str, JSON], JSON]
"""Answers a question, given its name and its argument; raises LookupError for one it doesn't know."""

_SEND_TIMEOUT = struct.pack("ll", 5, 0)  # a struct timeval: seconds, microseconds


class ChannelClosedError(Exception):
    """The other end is gone, or doesn't take messages any more."""


class NoAnswerError(Exception):
    """The other end could not answer; its log says why."""


class Channel:
    """One end of a connected pair of sockets."""

    def __init__(self, end: socket.socket, answer: Answer, answerers: Executor) -> None:
        """Take over the socket.

        Args:
            end: Blocking; closed when `listen` returns.
            answer: Called on the executor's threads for each question of the other end.
            answerers: Where questions are answered.
        """
        # An end that stops reading must not keep this one's threads for ever.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        self._socket = end
        self._answer = answer
        self._answerers = answerers
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[JSON]] = {}
        self._lock = Lock()
        self._closed = False

    def ask(self, question: str, argument: JSON = None) -> Future[JSON]:
        """Ask the other end.

        Returns:
            The answer to come; it fails with ChannelClosedError or NoAnswerError if none can come.
        """
        future: Future[JSON] = Future()
        number = next(self._numbers)
        self._asked[number] = future
        self._send({"question": question, "argument": argument, "number": number})
        if self._closed:
            self._give_up()
        return future

    def listen(self) -> None:
        """Take questions and answers until the other end is gone."""
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "question" in message:
                    self._answerers.submit(self._reply, message)
                else:
                    self._receive(message)
        self.close()
        self._socket.close()
        self._give_up()

    def close(self) -> None:
        """Let `listen` return at both ends; questions that wait for an answer fail."""
        self._closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _reply(self, message: JSON) -> None:
        reply = {"number": message["number"]}
        try:
            reply["answer"] = self._answer(message["question"], message["argument"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the other end must not wait
            _log.warning("a question was not answered", question=message["question"], exc_info=error)
        self._send(reply)

    def _receive(self, message: JSON) -> None:
        future = self._asked.pop(message["number"])
        if "answer" in message:
            future.set_result(message["answer"])
        else:
            future.set_exception(NoAnswerError("the other end could not answer"))

    def _send(self, message: JSON) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(line)
        except OSError:  # half a line may be out: nothing can follow it
            self.close()

    def _give_up(self) -> None:
        for number in list(self._asked):
            if future := self._asked.pop(number, None):
                with suppress(InvalidStateError):
                    future.set_exception(ChannelClosedError("the other end is gone"))
