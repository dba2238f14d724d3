"""How much the requests for one model may queue and share runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchingLimits:
    """The limits of one model: the server's settings, unless its config.toml says otherwise."""

    max_batch_size: int = 32
    """Most items of one run; requests with more are run in slices."""
    max_queue_size: int = 512
    """Most requests that wait."""
    max_queue_delay_us: int = 0
    """How long a request waits for others to share its run, in microseconds."""


DEFAULT_LIMITS = BatchingLimits()
