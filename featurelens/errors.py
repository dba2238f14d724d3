"""The one exception that callers of featurelens have to know."""

from __future__ import annotations


class FeaturelensError(Exception):
    """A call failed, or its input could not be read.

    Attributes:
        code: name of a gRPC status code, such as "INVALID_ARGUMENT".
        message: what came, what was expected, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both as arguments, so that the error can be pickled
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
