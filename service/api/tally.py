"""What a call asks of a model and what it takes, for the model's statistics and the access log."""

from __future__ import annotations

from service.repository import ServedModel
from service.statistics import Inference


class Tally:
    """What is to be counted for one call when it ends.

    Attributes:
        layers: how many layers it asks for.
        inference: where the time went; set before the call ends well.
        run_batch_size: items of the run that it shared.
    """

    __slots__ = ("inference", "layers", "run_batch_size", "served")

    def __init__(self, served: ServedModel, layers: int = 0) -> None:
        self.served = served
        self.layers = layers
        self.inference: Inference | None = None
        self.run_batch_size = 0

    def count(self, duration_ns: int, *, ok: bool) -> None:
        """Count the call as answered or failed."""
        if ok and self.inference is not None:
            self.served.statistics.succeeded(self.inference, duration_ns)
        else:
            self.served.statistics.failed(duration_ns)

    def facts(self) -> dict[str, object]:
        """Tell what the access log says of the call."""
        facts: dict[str, object] = {"model": self.served.name, "version": self.served.version}
        if self.inference is not None:
            facts |= {
                "samples": self.inference.samples,
                "layers": self.layers,
                "run_batch_size": self.run_batch_size,
            }
        return facts
