"""Parses requests."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from service.errors import InvalidRequestError

Request = TypeVar("Request", bound=Message)


def parse(kind: type[Request], data: bytes) -> Request:
    """Parse an encoded request.

    Raises:
        InvalidRequestError: it isn't one.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError(f"the request is not an encoded {kind.DESCRIPTOR.name}") from error
