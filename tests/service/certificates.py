"""Certificates of authorities that the tests make up, as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files that a server or a client is told to take."""

    cert: Path
    key: Path

    def hold(self, issued: trustme.LeafCert) -> None:
        """Put a certificate into the files, each replaced as a whole: the key first."""
        for file, blob in ((self.key, issued.private_key_pem), (self.cert, issued.cert_chain_pems[0])):
            new = file.with_suffix(".new")
            blob.write_to_path(new)
            new.replace(file)


def pair_of(issued: trustme.LeafCert, folder: Path) -> Pair:
    """Write a certificate and its key into a folder that is made for them."""
    folder.mkdir()
    pair = Pair(folder / "cert.pem", folder / "key.pem")
    pair.hold(issued)
    return pair


def authority(folder: Path, name: str = "ca") -> tuple[trustme.CA, Path]:
    """Make an authority, and write its certificate into a folder."""
    ca = trustme.CA()
    file = folder / f"{name}.pem"
    ca.cert_pem.write_to_path(file)
    return ca, file
