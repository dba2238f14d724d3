"""What a transport enforces by itself, whichever it is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

REQUEST_ID_KEY = "x-request-id"
"""Metadata in which a caller may send its id, and finds the one that was used."""

_MOST_ID_CHARACTERS = 256
# A status message travels in a header, and many clients refuse headers over 8 KiB.
_MAX_MESSAGE_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Sizes in bytes, times in seconds."""

    max_request_bytes: int
    max_response_bytes: int
    default_deadline_s: float
    max_deadline_s: float
    max_stream_in_flight: int
    max_unread_bytes: int
    max_connections: int
    max_streams: int
    max_concurrent_streams: int = 256
    """Of one connection: bounds what it can make the server work on, so a flood of resets stays cheap."""
    max_metadata_bytes: int = 16_384
    keepalive_time_s: int = 60
    """How long a connection may be silent before it is asked whether its peer is still there."""
    keepalive_timeout_s: int = 20
    greeting_s: float = 20.0
    """How long a client may be connected before it begins to speak."""
    look_at_connections_every_s: float = 5.0

    def deadline(self, remaining_s: float | None) -> float:
        """Return when a call that has this long left must end, on time.monotonic's clock."""
        seconds = self.default_deadline_s if remaining_s is None else remaining_s
        return time.monotonic() + min(seconds, self.max_deadline_s)


def request_id_in(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Find the caller's request id; one that is too long for a log and an answer is none.

    It comes back quoted, up to twelve bytes a character, and clients refuse answers with long headers.
    """
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str):
            return value if len(value) <= _MOST_ID_CHARACTERS else None
    return None


def status_message(error: Exception) -> str:
    """Return an error's message, cut to what clients take."""
    return str(error)[:_MAX_MESSAGE_CHARACTERS]
