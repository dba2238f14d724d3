"""The `featurelens` command."""

from featurelens.cli.app import main

__all__ = ["main"]
