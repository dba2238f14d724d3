"""Measure a server with one Python client, calls a second and their latency: `python -m benchmarks ADDRESS`.

Every call brings one image as LeNet's input, so that the numbers are about serving and not about decoding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from featurelens import AsyncClient

CONCURRENCIES = (1, 8, 64)
LAYERS: tuple[tuple[str, ...], ...] = ((), ("conv1",))
IMAGE = np.random.default_rng(1).random((1, 1, 32, 32), np.float32)


@dataclass(frozen=True)
class Measurement:
    """How long each of the calls took, in seconds, and all of them together."""

    latencies: list[float]
    seconds: float

    @property
    def calls_per_second(self) -> float:
        """Calls a second, over all callers."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the latency that so many percent of the calls stay below, in milliseconds."""
        return 1e3 * float(np.percentile(self.latencies, percent))


async def measure(
    client: AsyncClient, layers: tuple[str, ...], concurrency: int, seconds: float
) -> Measurement:
    """Call from so many callers at once, each waiting for its answer before it calls again."""
    latencies: list[float] = []
    start = time.perf_counter()

    async def caller() -> None:
        while (began := time.perf_counter()) < start + seconds:
            await client.classify_tensor(IMAGE, layers=layers, top_k=1)
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return Measurement(latencies, time.perf_counter() - start)


async def benchmark(address: str, seconds: float) -> Table:
    """Measure every combination of layers and callers."""
    table = Table(
        "layers", "callers", "calls/s", "p50 ms", "p99 ms", title=f"{os.cpu_count()} CPUs, shared by both"
    )
    async with AsyncClient(address) as client:
        for layers in LAYERS:
            await measure(
                client, layers, 1, seconds / 10
            )  # the first call of a set of layers builds its session
            for concurrency in CONCURRENCIES:
                measured = await measure(client, layers, concurrency, seconds)
                numbers = (measured.calls_per_second, measured.percentile(50), measured.percentile(99))
                table.add_row(
                    ", ".join(layers) or "none", str(concurrency), *(f"{number:,.1f}" for number in numbers)
                )
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="?", default=os.environ.get("FEATURELENS_SERVER", "127.0.0.1:8001"))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    arguments = parser.parse_args()
    Console().print(asyncio.run(benchmark(arguments.address, arguments.seconds)))


if __name__ == "__main__":
    main()
