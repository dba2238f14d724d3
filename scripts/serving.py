"""Run a command beside a server: `python -m scripts.serving COMMAND...`.

The server listens on a free port, which the command finds in FEATURELENS_SERVER, and ends with the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FEATURELENS = Path(sys.executable).with_name("featurelens")
LOG = Path("out/server.log")
START_S, STOP_S = 60, 30


class ServerError(Exception):
    """The server did not start or did not end as it should; the message has its log."""


@contextmanager
def server(log: Path) -> Iterator[str]:
    """Run a server and yield its address; stop it as its operator would, with SIGTERM.

    Raises:
        ServerError: it did not start, or its exit status isn't 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [FEATURELENS, "serve", "--grpc-address", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        print(ready := _first_line(process, log))
        yield ready.split()[-1]
        process.terminate()
        if status := process.wait(STOP_S):
            raise ServerError(f"the server ended with exit status {status}:\n{log.read_text()}")
        print("the server has stopped")
    finally:
        process.kill()
        process.communicate()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    """Wait for the line that the server prints when it is ready."""
    deadline = threading.Timer(START_S, process.kill)
    deadline.start()
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    deadline.cancel()
    if not line:
        raise ServerError(f"the server did not start:\n{log.read_text()}")
    return line


def main() -> None:
    """Run the command and exit with its status."""
    try:
        with server(LOG) as address:
            environment = os.environ | {"FEATURELENS_SERVER": address}
            status = subprocess.run(sys.argv[1:], env=environment, check=False).returncode
    except ServerError as error:
        sys.exit(str(error))
    sys.exit(status)


if __name__ == "__main__":
    main()
