"""`featurelens token`: a new bearer token, and what the server needs to know of it."""

from __future__ import annotations

import secrets
from hashlib import sha256

from featurelens.cli.console import Output, print_json
from featurelens.cli.options import OutputOption

_BYTES = 32


def token(output: OutputOption = Output.TABLE) -> None:
    """Make a bearer token: the caller gets the token, the server's settings its hash."""
    new = secrets.token_urlsafe(_BYTES)
    digest = sha256(new.encode()).hexdigest()
    if output is Output.JSON:
        print_json({"token": new, "sha256": digest})
    else:
        print(f"token   {new}\nsha256  {digest}")
