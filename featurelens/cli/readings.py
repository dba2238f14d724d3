"""Reads the metrics of a server, and what happened between two readings."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from math import inf
from urllib.request import urlopen

from featurelens.cli.console import CommandError

_SAMPLE = re.compile(r"([\w:]+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")

Labels = Mapping[str, str]
Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Reading:
    """All metrics at one time, which is in seconds since 1970."""

    at_s: float
    values: Mapping[Series, float]


def read(address: str, timeout_s: float) -> Reading:
    """Read a metrics port.

    Raises:
        CommandError: nothing there tells metrics.
    """
    try:
        with urlopen(f"http://{address}/metrics", timeout=timeout_s) as response:
            text = response.read().decode()
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(
            f"no metrics at {address}: {reason}; the server's log tells where it serves them, and"
            " --metrics takes that address"
        ) from error
    return Reading(time.time(), dict(parse(text)))


def parse(text: str) -> Iterator[tuple[Series, float]]:
    """Parse Prometheus' text format, version 0.0.4, without timestamps.

    See https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    for line in text.splitlines():
        if match := _SAMPLE.fullmatch(line):
            name, labels, value = match.groups()
            pairs = frozenset((key, _plain(text)) for key, text in _LABEL.findall(labels or ""))
            yield (name, pairs), float(value)


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], text)


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two readings, the first of which may be None: since the server was started."""

    before: Reading | None
    after: Reading

    @property
    def seconds(self) -> float:
        """How long it is."""
        started_s = self.before.at_s if self.before else self.now("process_start_time_seconds")
        return max(self.after.at_s - started_s, 1e-3)

    def now(self, name: str, **labels: str) -> float:
        """Add up the samples with these labels at its end."""
        return sum(value for _, value in _found(self.after, name, labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return how much the samples with these labels grew, by the value of one more."""
        grown: dict[str, float] = defaultdict(float)
        for series, value in _found(self.after, name, labels):
            grown[dict(series[1])[label]] += self._growth(series, value)
        return grown

    def growth(self, name: str, **labels: str) -> float:
        """Tell how much the samples with these labels grew."""
        return sum(self._growth(series, value) for series, value in _found(self.after, name, labels))

    def rate(self, name: str, **labels: str) -> float:
        """Tell how much the samples with these labels grew in a second."""
        return self.growth(name, **labels) / self.seconds

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Estimate the value that this share of a histogram's values doesn't exceed; None without values.

        Interpolates within a bucket, as Prometheus' histogram_quantile does.
        """
        grown = self.by("le", f"{name}_bucket", **labels)
        buckets = sorted((float(bound.replace("+Inf", "inf")), count) for bound, count in grown.items())
        if not buckets or not buckets[-1][1]:
            return None
        wanted = share * buckets[-1][1]
        lower, below = 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted:
                return lower if bound == inf else lower + (bound - lower) * (wanted - below) / (count - below)
            lower, below = bound, count
        return lower

    def labels(self, name: str) -> list[dict[str, str]]:
        """List the labels of the samples that a metric has at the end, in the server's order."""
        return [dict(series[1]) for series, _ in _found(self.after, name, {})]

    def _growth(self, series: Series, value: float) -> float:
        old = self.before.values.get(series, 0.0) if self.before else 0.0
        return value - old if value >= old else value  # it began anew


def _found(reading: Reading, name: str, labels: Labels) -> Iterator[tuple[Series, float]]:
    for series, value in reading.values.items():
        if series[0] == name and labels.items() <= dict(series[1]).items():
            yield series, value
