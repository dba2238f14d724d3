"""Reads a metrics port."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The samples of one reading."""

    def __init__(self, address: str) -> None:
        with urlopen(f"http://{address}/metrics", timeout=10) as response:
            self.text = response.read().decode()
        self._samples = [
            sample for family in text_string_to_metric_families(self.text) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        """Add up the samples that have these labels; 0 for none."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the samples that aren't 0 by the value of one label."""
        return {
            s.labels[label]: s.value
            for s in self._samples
            if s.name == name and s.value and labels.items() <= s.labels.items()
        }

    def calls(self, method: str) -> tuple[float, dict[str, float], float, float, float]:
        """Return how many calls of a method began, ended by code, were timed; messages in and out."""
        return (
            self("grpc_server_started_total", grpc_method=method),
            self.by("grpc_code", "grpc_server_handled_total", grpc_method=method),
            self("grpc_server_handling_seconds_count", grpc_method=method),
            self("grpc_server_msg_received_total", grpc_method=method),
            self("grpc_server_msg_sent_total", grpc_method=method),
        )


def scraped(address: str, name: str, expected: float, **labels: str) -> Scrape:
    """Read until a metric has the value that it is to reach."""
    while (scrape := Scrape(address))(name, **labels) != expected:  # a test that waits too long is ended
        pass
    return scrape
