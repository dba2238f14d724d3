"""A port is held for those who share it, and for nobody else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from service.errors import StartupError
from service.port import closed_first, held


def listen(address: str, *, share: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    end = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(share))
    try:
        end.bind((host.strip("[]"), int(port)))
        end.listen()
    except OSError:
        end.close()
        raise
    return end


@pytest.mark.parametrize("wanted", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"])
def test_those_who_share_it_listen_on_it_and_others_do_not(wanted: str) -> None:
    with held(wanted) as address:
        assert address.rpartition(":")[0] == wanted.rpartition(":")[0]
        with listen(address, share=True), listen(address, share=True):
            with pytest.raises(OSError, match="in use"):
                listen(address, share=False)
            with (
                pytest.raises(StartupError, match="in use; choose another with --grpc-address"),
                held(address),
            ):
                pass


def test_it_is_held_while_nobody_listens() -> None:
    with held("127.0.0.1:0") as address, pytest.raises(OSError, match="in use"):
        listen(address, share=False)


def test_a_name_holds_all_of_its_addresses() -> None:
    with held("localhost:0") as address:
        port = address.rpartition(":")[2]
        with pytest.raises(StartupError, match="in use"), held(f"127.0.0.1:{port}"):
            pass


def test_connections_of_a_server_that_has_ended_are_no_obstacle() -> None:
    with (
        held("127.0.0.1:0") as address,
        listen(address, share=True) as end,
        socket.create_connection(end.getsockname()) as client,
    ):
        end.accept()[0].close()  # the side that closes first keeps the port for a minute
        assert client.recv(1) == b""
    with held(address) as again:
        assert again == address


@pytest.mark.parametrize(
    "address", ["nonsense", "unix:/tmp/x", "127.0.0.1:65536", "127.0.0.1:-1", "192.0.2.1:0"]
)
def test_what_is_no_address_of_this_machine_is_refused(address: str) -> None:
    with pytest.raises(StartupError, match=f"can't listen on {address}: "), held(address):
        pass


def descriptors_of(end: socket.socket) -> list[int]:
    number = f"socket:[{os.fstat(end.fileno()).st_ino}]"
    entries = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sorted(int(entry.name) for entry in entries if str(entry.readlink()) == number)


def test_sockets_that_listen_are_closed_before_connections_and_stay_no_longer_than_the_block() -> None:
    with listen("127.0.0.1:0", share=False) as end:
        with closed_first():
            own, copy = descriptors_of(end)
            assert copy >= 1000 > own
        assert descriptors_of(end) == [own]
