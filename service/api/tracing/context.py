"""The trace that a call is part of, as its metadata tells: https://www.w3.org/TR/trace-context/."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

Metadata = Iterable[tuple[str, str | bytes]]

_PARENT = "traceparent"
_STATE = "tracestate"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


class CallersSpan(NamedTuple):
    """What of a trace the caller's part is; ids in lower-case hexadecimal."""

    trace_id: str
    span_id: str
    is_sampled: bool


def callers_span(metadata: Metadata) -> CallersSpan | None:
    """Find the caller's span; None if there is none, or what stands there isn't one."""
    for key, value in metadata:
        if key == _PARENT and isinstance(value, str):
            return _parsed(value)
    return None


def trace_state(metadata: Metadata) -> list[str]:
    """Return what other tracing systems say of the trace, as it came, to be handed on."""
    return [value for key, value in metadata if key == _STATE and isinstance(value, str)]


def _parsed(text: str) -> CallersSpan | None:
    if (match := _FORM.fullmatch(text)) is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return CallersSpan(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
