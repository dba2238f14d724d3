"""TLS of the grpcio transport: certificates that are read again when they are replaced."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from service.errors import StartupError
from service.reloading import Reloaded


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files.

    Attributes:
        cert: the server's certificate, and those between it and the authority.
        key: its private key, not encrypted.
        client_ca: authorities one of which has to vouch for a client; None: any client may connect.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def all(self) -> list[Path]:
        """List the files."""
        return [file for file in (self.cert, self.key, self.client_ca) if file]


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Make credentials that read the files again when they have changed, as a connection comes.

    A set of files that doesn't fit together is logged, and the one before it stays in use.

    Raises:
        StartupError: the files can't be used; says which and why.
    """
    configuration = Reloaded(files.all(), lambda: _load(files))
    current = configuration.get()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        if (latest := configuration.get()) is current:
            return None
        current = latest
        return latest

    return grpc.dynamic_ssl_server_credentials(
        current,
        fetch,  # type: ignore[arg-type] # the stub leaves out None, which gRPC takes as: nothing has changed
        require_client_authentication=files.client_ca is not None,
    )


def _load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Read the files once they have been found to fit together; gRPC itself wouldn't say what is wrong."""
    try:
        cert, key, roots = contents = _contents(files)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key, password=_refuse_encrypted)
        if roots is not None:
            context.load_verify_locations(cadata=roots.decode("ascii"))
        if _contents(files) != contents:
            raise ValueError("they are being replaced")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join(str(file) for file in files.all())
        raise StartupError(f"TLS: {names} can't be used together: {error}") from error
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=roots)


def _contents(files: TlsFiles) -> tuple[bytes, bytes, bytes | None]:
    client_ca = files.client_ca.read_bytes() if files.client_ca else None
    return files.cert.read_bytes(), files.key.read_bytes(), client_ca


def _refuse_encrypted() -> str:
    raise ValueError("the key is encrypted; give one that isn't, and protect the file")
