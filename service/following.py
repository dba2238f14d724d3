"""Puts together what keeps a repository live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event

from service.attempts import Attempts
from service.changeover import ChangeOver
from service.control import Control
from service.folder_view import FolderView
from service.live import LiveRepository
from service.model import Model
from service.peers import Peers
from service.reconciler import Reconciler
from service.retirement import Retirement
from service.settings import Settings
from service.start_up import Started
from service.trial import Trial, TrialLimits
from service.unison import Unison


@contextmanager
def following(
    started: Started, settings: Settings, end: Callable[[Model], None], peers: Peers
) -> Iterator[Control | None]:
    """Keep what was loaded at the start live, as far as the settings say so, until the block is left.

    Args:
        started: what was loaded.
        settings: the server's.
        end: ends what runs a model's jobs.
        peers: the processes that share the port; one of them follows the folder for all.

    Yields:
        What begins it, and takes requests; None if nothing is followed, nor may be quarantined.
    """
    watch = settings.watch and settings.model_repository is not None
    if not (watch or settings.model_control or peers.count > 1):
        yield None
        return
    with ExitStack() as parts:
        retirement = parts.enter_context(closing(Retirement(end)))
        unison = Unison(peers, ChangeOver(started, retirement.retire))
        live = _live(started, settings, unison, watch=watch) if peers.leads else None
        control = parts.enter_context(closing(Control(peers, live)))
        if live is not None:
            parts.enter_context(closing(live))  # closed first: requests that control waits for end
        yield control


def _live(started: Started, settings: Settings, unison: Unison, *, watch: bool) -> LiveRepository:
    view = FolderView(started.folder, started.picture, settings.watch_settle_s)
    trial, wake = Trial(TrialLimits(settings.trial_timeout_s, settings.trial_memory_mib)), Event()
    attempts = Attempts(view, trial, started.options, wake.set)
    reconciler = Reconciler(view, unison, attempts, started.configs)
    return LiveRepository(started.folder, reconciler, attempts, wake, watch=watch)
