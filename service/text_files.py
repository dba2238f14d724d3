"""Text files that operators write, with whatever editor: what their bytes say."""

from __future__ import annotations

import codecs

from service.file_kinds import stand_in


def text_of(data: bytes) -> str:
    """Decode UTF-8, with or without the mark that some editors put in front of it.

    Raises:
        ValueError: It isn't UTF-8, or isn't the file itself; the message goes on after the file's name.
    """
    if kind := stand_in(data):
        raise ValueError(f"it is {kind}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise ValueError(f"line {line} is not UTF-8; save it as UTF-8") from error
