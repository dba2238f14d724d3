"""Holds the port that several processes listen on."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from service.errors import StartupError

# Above the descriptors of most connections, below the usual limit.
_HIGH = 1000
# A name may stand for addresses of a kind that this machine doesn't have.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@contextmanager
def held(address: str) -> Iterator[str]:
    """Hold an address, such as `127.0.0.1:8001`, until the block is left; yield it with its real port.

    Nothing listens on it yet: processes that set SO_REUSEPORT may, those that don't can't.

    Raises:
        StartupError: it is in use, or not an address of this machine.
    """
    host, _, port = address.rpartition(":")
    with ExitStack() as sockets:
        number = 0
        for family, sockaddr in _resolve(address, host.strip("[]"), port):
            end = sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
            try:
                number = _bind(end, sockaddr[0], number or int(port))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise _cannot(address, error.strerror) from error
        if not number:
            raise _cannot(address, "it is not an address of this machine")
        yield f"{host}:{number}"


def _resolve(address: str, host: str, port: str) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        if not 0 <= int(port) < 1 << 16:
            raise ValueError
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except ValueError as error:
        raise _cannot(address, "it is no HOST:PORT, which several workers need") from error
    except OSError as error:
        raise _cannot(address, error.strerror) from error
    return [(family, (str(sockaddr[0]), int(sockaddr[1]))) for family, _, _, _, sockaddr in found]


def _bind(end: socket.socket, host: str, port: int) -> int:
    """Bind as nobody else is bound, then let others join."""
    # Connections of a server that has just ended are no obstacle.
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.bind((host, port))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    # Not before: two servers with workers would share the port without a word.
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return int(end.getsockname()[1])


def _cannot(address: str, reason: str | None) -> StartupError:
    return StartupError(f"can't listen on {address}: {reason}; choose another with --grpc-address")


@contextmanager
def closed_first() -> Iterator[None]:
    """Within the block, have this process stop listening before it loses its connections, if it is killed.

    Linux closes the files of a process that ends from the highest descriptor down. A client whose connection
    is gone makes another at once, and if that one reaches the dying process as well, waits for a second. So
    the sockets that listen get one more descriptor, above those of connections.
    """
    with ExitStack() as copies:
        for end in _listening():
            with suppress(OSError):  # the limit is lower: no harm but that
                copies.callback(os.close, fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH))
        yield


def _listening() -> list[int]:
    descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return [descriptor for descriptor in descriptors if _listens(descriptor)]


def _listens(descriptor: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as end:
            internet = end.family in (socket.AF_INET, socket.AF_INET6)
            return internet and bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # closed by now
        return False
