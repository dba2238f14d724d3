"""Looks at what this machine offers and what the settings make of it, without serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.checks import configuration, files, machine, models, network, security, software
from service.checks.finding import Finding
from service.cpus import available_cpus
from service.settings import Settings


def examine(flags: Sequence[str]) -> Iterator[Finding]:
    """Yield what every check finds, as soon as it is found.

    Args:
        flags: As for `featurelens serve`. A wrong flag exits as argparse does.
    """
    settings, found = configuration.configuration(flags)
    yield from found
    yield software.python()
    yield from software.packages(settings)
    yield from _machine(settings)
    yield from network.addresses(settings)
    yield from network.collectors(settings)
    yield from security.door(settings)
    yield from files.folders(settings)
    yield models.device(settings)
    yield from models.models(settings)
    # Now that the models are loaded.
    yield machine.memory(settings, machine.taken_bytes(), machine.memory_bytes(), available_cpus())


def _machine(settings: Settings) -> Iterator[Finding]:
    yield machine.cpus(settings)
    yield machine.open_files()
    yield machine.threads(settings, available_cpus())
    yield machine.clock()
