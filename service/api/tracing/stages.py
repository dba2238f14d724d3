"""When each stage of a call that was answered began and ended, from the times that its tally has."""

from __future__ import annotations

from typing import NamedTuple

from service.api.tally import Tally


class Stage(NamedTuple):
    """A part of a call; times in nanoseconds on time.perf_counter_ns's clock."""

    name: str
    start_ns: int
    end_ns: int


def stages(tally: Tally | None, started_ns: int, ended_ns: int) -> list[Stage]:
    """Return decode, queue, run and encode of a call that took from start to end; nothing if it failed.

    Between them may be gaps: waiting for a thread that decodes, or for others that shared the run. An answer
    of the response cache has a stage of its own in place of queue and run.
    """
    if tally is None or tally.inference is None:
        return []
    times = tally.inference
    queued_ns = tally.queued_ns or started_ns + times.input_ns
    run_ns = queued_ns + times.queue_ns
    encode_ns = ended_ns - times.output_ns
    # Runs of slices may overlap: their sum is longer than they took.
    between = (
        [Stage("cache", queued_ns, min(queued_ns + times.cache_ns, encode_ns))]
        if times.cached
        else [
            Stage("queue", queued_ns, run_ns),
            Stage("run", run_ns, min(run_ns + times.infer_ns, encode_ns)),
        ]
    )
    decode = Stage("decode", queued_ns - times.input_ns, queued_ns)
    return [decode, *between, Stage("encode", encode_ns, ended_ns)]
