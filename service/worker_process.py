"""A worker as its supervisor sees it: a process at the other end of a channel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future

from service.channel import JSON, Answer, Channel
from service.supervised import ALIVE
from service.suspects import CRASHES, new_record, suspect_in

# What a process may take to end once it has closed its channel.
_END_S = 5.0


class WorkerProcess:
    """One process, from its start to its end.

    Attributes:
        channel: what to ask it through.
        suspect: digest of the version whose run crashed it; "" if none did, or it can't be told.
    """

    def __init__(self, number: int, arguments: Sequence[str], answer: Answer, answerers: Executor) -> None:
        """Start it.

        Args:
            number: Its place among the workers, for the log.
            arguments: The flags of the server.
            answer: Answers its questions, on the executor.
            answerers: Threads for that.
        """
        self.suspect = ""
        self._record = new_record()
        ours, theirs = socket.socketpair()
        with theirs:
            ends = [theirs.fileno(), self._record]
            self._process = subprocess.Popen(  # noqa: S603 - this program once more
                [sys.executable, "-P", "-m", "service.worker", *map(str, ends), str(number), *arguments],
                pass_fds=ends,
                # Modules are found where this process found them, whichever way it was started.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self.channel = Channel(ours, answer, answerers)
        self._alive: Future[JSON] | None = None
        self._asked_s = 0.0

    def silent_s(self) -> float:
        """Tell for how many seconds it has owed a sign of life; asks for one if it owes none."""
        if self._alive is None or self._alive.done():
            self._asked_s = time.monotonic()
            self._alive = self.channel.ask(ALIVE)
        return time.monotonic() - self._asked_s

    def run_to_its_end(self) -> str:
        """Listen to it until it ends; say how, to be read after its name."""
        self.channel.listen()
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:  # it hangs
            self._process.kill()
            status = self._process.wait()
        if -status in CRASHES:
            self.suspect = suspect_in(self._record)
        os.close(self._record)
        cause = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
        return f"(process {self._process.pid}) ended {cause}"

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
