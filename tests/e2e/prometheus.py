"""A Prometheus that scrapes a server: Debian's program, on a port and with a folder of its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

_CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: featurelens
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """A running one."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the labels and values that an expression has now."""
        with urlopen(f"http://{self._address}/api/v1/query?{urlencode({'query': expression})}") as response:
            answer = json.load(response)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Return the value of an expression that has one, None if it has none yet."""
        found = [float(sample["value"][1]) for sample in self.query(expression)]
        return found[0] if found else None

    def until(self, expression: str, expected: float) -> None:
        """Wait for a scrape that gives an expression this value."""
        while self.value(expression) != expected:  # a test that waits too long is ended
            pass

    def metadata(self) -> dict[str, dict[str, str]]:
        """Return type and help of every metric, as they were read."""
        with urlopen(f"http://{self._address}/api/v1/metadata") as response:
            found = json.load(response)["data"]
        return {name: entries[0] for name, entries in found.items()}


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with one target until the block is left."""
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(target=target))
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address, lines = "", []
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r'msg="Listening on" address=(\S+)', line):
                address = match[1]
            if "Server is ready" in line:
                break
        assert address, "".join(lines)
        yield Prometheus(address)
    finally:
        process.terminate()
        process.communicate()
