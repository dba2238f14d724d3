"""A client of HTTP/2 that does what no client should: it sends single frames, and gives no credit."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLASSIFY = "/featurelens.v1.Classifier/Classify"
STREAM = "/featurelens.v1.Classifier/ClassifyStream"
MOST_FRAME = 16384
FIRST_WINDOW = 65535
TIMEOUT_S = 20.0

Headers = Sequence[tuple[str, str]]


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S)


def message(data: bytes, announced: int | None = None) -> bytes:
    """Frame a gRPC message; it may announce another length than it has."""
    return b"\0" + struct.pack(">I", len(data) if announced is None else announced) + data


class Attacker:
    """One connection.

    Attributes:
        closed: whether the server has ended it.
        reset: how many streams the server has ended early.
    """

    def __init__(self, address: str, *, window: int = FIRST_WINDOW) -> None:
        """Connect and greet; `window` is how many bytes of an answer the server may send unasked."""
        self.closed = False
        self.reset = 0
        self._socket = connect(address)
        self._encoder = Encoder()
        self._next = 1
        self._credit = {0: FIRST_WINDOW}
        self._first_credit = FIRST_WINDOW
        self._received = b""
        settings = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: window})
        self.send(PREFACE + settings.serialize())

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes, unless the server has closed the connection or takes none."""
        try:
            self._socket.settimeout(TIMEOUT_S)
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    def headers(
        self, path: str = CLASSIFY, extra: Headers = (), *, flags: Sequence[str] = ("END_HEADERS",)
    ) -> int:
        """Begin a call and return its stream."""
        stream, self._next = self._next, self._next + 2
        self._credit[stream] = self._first_credit
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        plain = [("te", "trailers"), ("content-type", "application/grpc"), *extra]
        frame = HeadersFrame(stream, self._encoder.encode([*pseudo, *plain]), flags=flags)
        self.send(frame.serialize())
        return stream

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send data on a stream, in as many frames as it takes, and wait for the server's credit."""
        end_s = time.monotonic() + TIMEOUT_S
        while data and not self.closed and time.monotonic() < end_s:
            room = min(self._credit[0], self._credit[stream], MOST_FRAME)
            if room <= 0:
                self.read()
                continue
            part, data = data[:room], data[room:]
            self._credit[0] -= len(part)
            self._credit[stream] -= len(part)
            flags = ["END_STREAM"] if end and not data else []
            self.send(DataFrame(stream, part, flags=flags).serialize())

    def cancel(self, stream: int) -> None:
        self.send(RstStreamFrame(stream, error_code=8).serialize())

    def ping(self) -> None:
        self.send(PingFrame(0, b"12345678").serialize())

    def read(self, wait_s: float = 0.02) -> None:
        """Take what the server has sent: obey its settings, answer its pings, give no credit."""
        self._socket.settimeout(wait_s)
        try:
            received = self._socket.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            received = b""
        self.closed = self.closed or not received
        self._received += received
        while len(self._received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._received)[:9])
            if len(self._received) < 9 + length:
                return
            frame.parse_body(memoryview(self._received)[9 : 9 + length])
            self._received = self._received[9 + length :]
            self._heed(frame)

    def _heed(self, frame: Frame) -> None:
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            first = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._first_credit)
            for stream in self._credit.keys() - {0}:
                self._credit[stream] += first - self._first_credit
            self._first_credit = first
            self.send(SettingsFrame(0, flags=["ACK"]).serialize())
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]).serialize())
        elif isinstance(frame, WindowUpdateFrame):
            self._credit[frame.stream_id] = self._credit.get(frame.stream_id, 0) + frame.window_increment
        elif isinstance(frame, RstStreamFrame):
            self.reset += 1
        elif isinstance(frame, GoAwayFrame):
            self.closed = True


def read_until(attackers: Sequence[Attacker], closed: int) -> bool:
    """Let all read until the server has closed so many of their connections; tell whether it did in time."""
    end_s = time.monotonic() + TIMEOUT_S
    while sum(attacker.closed for attacker in attackers) < closed:
        for attacker in attackers:
            attacker.read(0.001)
        if time.monotonic() > end_s:
            return False
    return True


def read_until_reset(attacker: Attacker, streams: int) -> bool:
    """Let it read until the server has ended so many streams, or all; tell whether it did in time."""
    end_s = time.monotonic() + TIMEOUT_S
    while attacker.reset < streams and not attacker.closed:
        attacker.read()
        if time.monotonic() > end_s:
            return False
    return True
