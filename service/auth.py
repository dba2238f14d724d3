"""Bearer tokens (RFC 6750): who may call what. The server knows the SHA-256 of a token, never the token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from pathlib import Path

from service.errors import PermissionDeniedError, ServiceError, StartupError, UnauthenticatedError
from service.reloading import Reloaded
from service.text_files import text_of

HASH_PATTERN = "[0-9a-f]{64}"

_HEADER = "authorization"
_SCHEME = "Bearer "
_LINE = re.compile(rf"({HASH_PATTERN})\s+(\S+)(\s+control)?")
_LOOK_EVERY_S = 1.0
_NO_TOKEN = UnauthenticatedError(
    "the call needs a token that the server knows, as metadata: authorization: Bearer <token>"
)
_NOT_CONTROL = PermissionDeniedError("the token opens calls, and this one needs a control token")

Metadata = Iterable[tuple[str, str | bytes]]


class Scope(IntEnum):
    """What a token opens; more opens less as well."""

    CALL = 1
    CONTROL = 2


@dataclass(frozen=True)
class Tokens:
    """The tokens that are valid now, by the hexadecimal SHA-256 of each."""

    scopes: dict[str, Scope]
    _verified: dict[str, Scope] = field(default_factory=dict)

    def scope_of(self, header: str) -> Scope | None:
        """Tell what an `authorization` header opens, if anything.

        A header that was found good once is looked up the next time. Only good ones are kept, one a token,
        and Python's string hashes are keyed: how long a look-up takes tells nothing of them.
        """
        scope = self._verified.get(header)
        if scope is None and (scope := self._verify(header)) is not None:
            self._verified[header] = scope
        return scope

    def _verify(self, header: str) -> Scope | None:
        if not header.startswith(_SCHEME):
            return None
        digest = sha256(header.removeprefix(_SCHEME).encode()).hexdigest()
        found = [scope for known, scope in self.scopes.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class AuthRules:
    """Who may call what.

    Attributes:
        tokens: SHA-256 of the tokens of which calls need one, if there are any, or a file.
        control_tokens: SHA-256 of the tokens that open the control of the server as well.
        file: More of both, a line each: hash, name, and perhaps the word control.
        open_services: Services that need no token, by their full names.
        control_methods: Methods that need a control token, by their full names.
    """

    tokens: Sequence[str] = ()
    control_tokens: Sequence[str] = ()
    file: Path | None = None
    open_services: frozenset[str] = frozenset()
    control_methods: frozenset[str] = frozenset()


Guard = Callable[[str, Metadata], ServiceError | None]
"""Tells from a method's full name and a call's metadata why the call may not be made, if so."""


def guard(rules: AuthRules) -> Guard | None:
    """Make the guard that the rules describe; None if they name no token: then everybody may call everything.

    Raises:
        StartupError: The file of tokens can't be used.
    """
    if not (rules.tokens or rules.control_tokens or rules.file):
        return None
    listed = dict.fromkeys(rules.tokens, Scope.CALL) | dict.fromkeys(rules.control_tokens, Scope.CONTROL)
    tokens = Reloaded(
        [rules.file] if rules.file else [], lambda: Tokens(listed | _read(rules.file)), _LOOK_EVERY_S
    )
    closed = bool(rules.tokens or rules.file)
    open_prefixes = tuple(f"/{service}/" for service in rules.open_services) if closed else ("/",)

    def refusal(method: str, metadata: Metadata) -> ServiceError | None:
        scope = tokens.get().scope_of(_header(metadata))
        controls = method in rules.control_methods
        if scope is Scope.CONTROL or (scope and not controls):
            return None
        if not controls and method.startswith(open_prefixes):
            return None
        return _NOT_CONTROL if scope else _NO_TOKEN

    return refusal


def _header(metadata: Metadata) -> str:
    for key, value in metadata:
        if key == _HEADER and isinstance(value, str):
            return value
    return ""


def _read(file: Path | None) -> dict[str, Scope]:
    if file is None:
        return {}
    try:
        lines = text_of(file.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise StartupError(f"can't read the tokens in {file}: {error}") from error
    scopes = {}
    for number, line in enumerate(lines, 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        if not (match := _LINE.fullmatch(text)):
            raise StartupError(
                f"{file}, line {number}: expected the SHA-256 of a token, as `featurelens token` prints it,"
                " a name, and perhaps the word control"
            )
        scopes[match[1]] = Scope.CONTROL if match[3] else Scope.CALL
    return scopes
