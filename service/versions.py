"""Versions of the packages that are installed."""

from __future__ import annotations

from importlib import metadata


def version_of(package: str) -> str | None:
    """Return the version of a package; None if it isn't installed, as ours in a checkout may not be."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
