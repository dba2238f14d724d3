from __future__ import annotations

import pytest

from featurelens.cli.console import CommandError
from featurelens.cli.extras import needing


def missing(module: str) -> None:
    raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def test_the_extra_of_a_missing_library_is_named() -> None:
    with pytest.raises(CommandError) as raised:
        needing("server", lambda: missing("onnxruntime.capi"))

    assert str(raised.value) == (
        "this needs onnxruntime, which is not installed: pip install 'featurelens[server]'"
    )


@pytest.mark.parametrize("module", ["service.nope", "training.nope"])
def test_a_missing_module_of_our_own_is_no_matter_of_installation(module: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        needing("server", lambda: missing(module))


def test_what_it_runs_returns_through() -> None:
    assert needing("server", lambda: 3) == 3
