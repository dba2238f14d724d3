"""RepositoryIndex and ModelStatistics: what the repository holds, and what its models have done.

With several workers every answer is that of all of them: counts are summed, and a version is as ready as it
is in the worker where it is least so.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict

from protos.inference import messages as pb
from service.api.call import Call
from service.api.oip.requests import parse
from service.channel import JSON
from service.errors import InvalidRequestError
from service.peers import INDEX, STATISTICS, Peers
from service.repository import Repository, ServedModel, State
from service.statistics import Totals, combined

_FROM_WORST = (State.UNAVAILABLE, State.LOADING, State.READY)

_Version = tuple[str, str]


class RepositoryMethods:
    """Answers questions about all versions of all models."""

    def __init__(self, repository: Repository, peers: Peers) -> None:
        self._repository = repository
        self._peers = peers
        self._inherit(peers.inherited.get(STATISTICS, []))
        peers.answer(STATISTICS, self._own_totals)
        peers.answer(INDEX, self._own_index)

    def index(self, data: bytes, call: Call) -> None:
        """Answer with an encoded RepositoryIndexResponse."""
        request = parse(pb.RepositoryIndexRequest, data)
        if request.repository_name:
            raise InvalidRequestError("there is one repository, without a name; leave repository_name empty")
        worst: dict[_Version, tuple[State, str]] = {}
        for name, version, state, reason in (
            entry for index in self._peers.ask_all(INDEX) for entry in index
        ):
            found = (State(state), reason)
            worst[name, version] = min(worst.get((name, version), found), found, key=_badness)
        models = [
            pb.RepositoryIndexResponse.ModelIndex(name=name, version=version, state=state.name, reason=reason)
            for (name, version), (state, reason) in worst.items()
            if state is State.READY or not request.ready
        ]
        call.succeed(pb.RepositoryIndexResponse(models=models).SerializeToString())

    def statistics(self, data: bytes, call: Call) -> None:
        """Answer with an encoded ModelStatisticsResponse."""
        request = parse(pb.ModelStatisticsRequest, data)
        models = self._served(request.name, request.version)
        totals = self._totals()
        stats = [_statistics(model, totals[model.name, model.version]) for model in models]
        call.succeed(pb.ModelStatisticsResponse(model_stats=stats).SerializeToString())

    def _served(self, name: str = "", version: str = "") -> list[ServedModel]:
        if version:
            return [self._repository.get(name, version)]
        if name:
            self._repository.get(name)  # an unknown one is an error
        served = [entry.served for entry in self._repository.entries() if entry.served is not None]
        return [model for model in served if name in ("", model.name)]

    def _totals(self) -> dict[_Version, Totals]:
        """Add up what all workers have counted."""
        parts = defaultdict(list)
        for answer in self._peers.ask_all(STATISTICS):
            for name, version, totals in answer:
                parts[name, version].append(Totals(**totals))
        return defaultdict(Totals, {version: combined(found) for version, found in parts.items()})

    def _own_totals(self, _: JSON) -> JSON:
        return [[model.name, model.version, asdict(model.statistics.totals())] for model in self._served()]

    def _own_index(self, _: JSON) -> JSON:
        return [
            [entry.name, entry.version, entry.state.value, entry.reason]
            for entry in self._repository.entries()
        ]

    def _inherit(self, answer: JSON) -> None:
        """Go on counting where the worker ended in whose place this one is."""
        counted = {(name, version): Totals(**totals) for name, version, totals in answer}
        for model in self._served():
            model.statistics.inherit(counted.get((model.name, model.version), Totals()))


def _badness(found: tuple[State, str]) -> int:
    return _FROM_WORST.index(found[0])


def _statistics(served: ServedModel, totals: Totals) -> pb.ModelStatistics:
    return pb.ModelStatistics(
        name=served.name,
        version=served.version,
        last_inference=totals.last_ms,
        inference_count=totals.samples,
        execution_count=totals.executions,
        inference_stats=_durations(totals),
    )


def _durations(totals: Totals) -> pb.InferStatistics:
    count = totals.successes - totals.cache_hits
    return pb.InferStatistics(
        success=pb.StatisticDuration(count=totals.successes, ns=totals.success_ns),
        fail=pb.StatisticDuration(count=totals.failures, ns=totals.failure_ns),
        queue=pb.StatisticDuration(count=count, ns=totals.queue_ns),
        compute_input=pb.StatisticDuration(count=count, ns=totals.input_ns),
        compute_infer=pb.StatisticDuration(count=count, ns=totals.infer_ns),
        compute_output=pb.StatisticDuration(count=count, ns=totals.output_ns),
        cache_hit=pb.StatisticDuration(count=totals.cache_hits, ns=totals.cache_hit_ns),
        cache_miss=pb.StatisticDuration(count=totals.cache_misses, ns=totals.cache_miss_ns),
    )
