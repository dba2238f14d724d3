"""How every sub-command that talks to a server reaches it: the options of the connection, defined once."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from featurelens.channel import DEFAULT_ADDRESS
from featurelens.cli.console import CommandError
from featurelens.cli.options import TIMEOUT_S, TimeoutOption
from featurelens.client import Client
from featurelens.security import Tls


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a sub-command a client of the server that its user names, as its argument `client`."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:  # noqa: ANN401 - whatever the sub-command takes
        options = {name: arguments.pop(name) for name in _OPTIONS}
        with _connect(**options) as client:
            command(client=client, **arguments)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "client"]
    run.__signature__ = inspect.Signature([*own, *_OPTIONS.values()])  # type: ignore[attr-defined] # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *_OPTIONS.values()]}
    return run


def _connect(
    *,
    server: Annotated[
        str, typer.Option(envvar="FEATURELENS_SERVER", metavar="ADDRESS", help="host:port of the server.")
    ] = DEFAULT_ADDRESS,
    timeout: TimeoutOption = TIMEOUT_S,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS; the options below switch it on too.")] = False,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Authorities that may vouch for the server, PEM.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate to show to the server, PEM.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the token; else FEATURELENS_TOKEN may hold it."),
    ] = None,
) -> Client:
    files = Tls(ca, cert, key)
    return Client(
        server,
        timeout=timeout,
        tls=files if files != Tls() else tls,
        token=_read_token(token_file) if token_file else os.environ.get("FEATURELENS_TOKEN", ""),
    )


_OPTIONS = inspect.signature(_connect, eval_str=True).parameters


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"can't read the token in {file}: {error}") from error
