"""RepositoryIndex and ModelStatistics: what the repository holds, and what its models have done."""

from __future__ import annotations

from protos.inference import messages as pb
from service.api.call import Call
from service.api.oip.requests import parse
from service.errors import InvalidRequestError
from service.repository import Repository, ServedModel, State
from service.statistics import Totals


class RepositoryMethods:
    """Answers questions about all versions of all models."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def index(self, data: bytes, call: Call) -> None:
        """Answer with an encoded RepositoryIndexResponse."""
        request = parse(pb.RepositoryIndexRequest, data)
        if request.repository_name:
            raise InvalidRequestError("there is one repository, without a name; leave repository_name empty")
        models = [
            pb.RepositoryIndexResponse.ModelIndex(
                name=entry.name, version=entry.version, state=entry.state.name, reason=entry.reason
            )
            for entry in self._repository.entries()
            if entry.state is State.READY or not request.ready
        ]
        call.succeed(pb.RepositoryIndexResponse(models=models).SerializeToString())

    def statistics(self, data: bytes, call: Call) -> None:
        """Answer with an encoded ModelStatisticsResponse."""
        request = parse(pb.ModelStatisticsRequest, data)
        models = self._served(request.name, request.version)
        response = pb.ModelStatisticsResponse(model_stats=[_statistics(served) for served in models])
        call.succeed(response.SerializeToString())

    def _served(self, name: str, version: str) -> list[ServedModel]:
        if version:
            return [self._repository.get(name, version)]
        if name:
            self._repository.get(name)  # an unknown one is an error
        served = [entry.served for entry in self._repository.entries() if entry.served is not None]
        return [model for model in served if name in ("", model.name)]


def _statistics(served: ServedModel) -> pb.ModelStatistics:
    totals = served.statistics.totals()
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
