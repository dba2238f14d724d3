"""What a call asks of a model and what it takes, for the model's statistics and the access log."""

from __future__ import annotations

from service.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    ExecutionError,
    OverloadedError,
    ServiceError,
)
from service.repository import ServedModel
from service.statistics import Fault, Inference


class Tally:
    """What is to be counted for one call when it ends.

    Attributes:
        layers: how many layers it asks for.
        inference: where the time went; set before the call ends well.
        queued_ns: when it began to wait for a run, on time.perf_counter_ns's clock; 0 if it didn't.
        run_batch_size: items of the run that it shared.
    """

    __slots__ = ("inference", "layers", "queued_ns", "run_batch_size", "served")

    def __init__(self, served: ServedModel, layers: int = 0) -> None:
        self.served = served
        self.layers = layers
        self.inference: Inference | None = None
        self.queued_ns = 0
        self.run_batch_size = 0

    def count(self, duration_ns: int, error: ServiceError | None) -> None:
        """Count the call as answered, or as failed with an error."""
        if error is None and self.inference is not None:
            self.served.statistics.succeeded(self.inference, duration_ns)
        else:
            self.served.statistics.failed(duration_ns, _fault(error))

    def facts(self) -> dict[str, str | int]:
        """Tell what the access log says of the call."""
        facts: dict[str, str | int] = {"model": self.served.name, "version": self.served.version}
        if self.inference is not None:
            facts |= {
                "samples": self.inference.samples,
                "layers": self.layers,
                "run_batch_size": self.run_batch_size,
            }
        return facts


def _fault(error: ServiceError | None) -> Fault | None:
    """Tell Triton's reason for the failure; None is any other."""
    match error:
        case OverloadedError() | DrainingError() | DeadlineExceededError():
            return "rejected"
        case CancelledError():
            return "canceled"
        case ExecutionError():
            return "broken"
        case _:
            return None
