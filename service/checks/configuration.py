"""Checks of the settings themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from service.checks.finding import Finding, bad, good
from service.errors import StartupError
from service.settings import Settings, read_settings, refuse_unknown_variables


def configuration(
    flags: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[Settings, list[Finding]]:
    """Read the settings; those that can't be read are the defaults.

    Args:
        flags: As for `featurelens serve`.
        environment: The variables to look for misspelt ones in; None: those of this process.
    """
    found = _unknown(environment)
    try:
        settings = read_settings(flags)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(map(str, problem["loc"]))
            found.append(bad("settings", f"{name}: {problem['msg']}", "the checks below take the defaults"))
        return Settings.model_construct(), found
    changed = sorted(settings.model_fields_set)
    return settings, [*found, good("settings", f"set: {', '.join(changed) or 'none'}")]


def _unknown(environment: Mapping[str, str] | None) -> list[Finding]:
    try:
        if environment is None:
            refuse_unknown_variables()
        else:
            refuse_unknown_variables(environment)
    except StartupError as error:
        name, _, advice = str(error).partition("; ")
        return [bad("environment", name, advice)]
    return []
