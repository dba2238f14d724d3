"""Checks of the folders that the server writes to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from service.checks.finding import Finding, bad, good
from service.settings import Settings


def folders(settings: Settings, temporary: Path | None = None) -> list[Finding]:
    """Check that they can be written to; `temporary` None: the system's own."""
    found = [_temporary(temporary)]
    if settings.tensorrt_cache:
        found.append(_writable("tensorrt_cache", settings.tensorrt_cache, "choose one that is"))
    return found


def _temporary(folder: Path | None) -> Finding:
    advice = "make it so, or set TMPDIR to one that is: the transport puts a socket there"
    try:
        place = folder or Path(tempfile.gettempdir())
    except OSError as error:
        return bad("temporary files", str(error.strerror), advice)
    return _writable("temporary files", place, advice)


def _writable(check: str, folder: Path, advice: str) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        return bad(check, f"{folder} can't be written to: {error.strerror}", advice)
    return good(check, f"{folder} can be written to")
